//! The only source of chance: everything that a simulation does follows from one seed.
//!
//! The generator is written out here, so that a seed means the same run for as long as this file does not change,
//! whatever versions of other packages are in use.

/// xoshiro256++, seeded by splitmix64, as their authors recommend.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator of a seed. Close seeds give unrelated numbers.
    pub fn new(seed: u64) -> Self {
        let mut mix = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut mix)) }
    }

    /// A generator of its own for one concern, so that more draws for one do not shift those of the others.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number below `bound`, which must not be 0. (The bias of the multiplication is below 2⁻³² for every bound
    /// that a simulation uses.)
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below 0");
        let product = u128::from(self.next_u64()) * u128::from(bound);
        (product >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "the range {low} to {high} is empty");
        low + self.below(high - low + 1)
    }

    /// An index into something of that length, which must not be 0.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// The time until the next of events that come independently, `mean` apart on average: exponentially distributed,
    /// at least 1.
    pub fn pause(&mut self, mean: u64) -> u64 {
        // Integer arithmetic only: the results of a logarithm may differ between machines. -ln(x) for x = m · 2^-e is
        // e · ln 2 - ln(m), with ln(m) by a table-free bisection that squares m: one bit of the logarithm a step.
        let draw = self.next_u64() | 1;
        let exponent = u64::from(draw.leading_zeros());
        let mut mantissa = u128::from((draw << exponent) >> 1);
        let mut log2_fraction = 0_u64;
        for bit in (0..20).rev() {
            mantissa = (mantissa * mantissa) >> 62;
            if mantissa >> 63 == 1 {
                mantissa >>= 1;
                log2_fraction |= 1 << bit;
            }
        }
        // Both in 2^-20 parts of log2; `draw` stands for draw / 2^64.
        let minus_log2 = ((exponent + 1) << 20) - log2_fraction;
        let minus_ln = (u128::from(minus_log2) * 726_817) >> 20; // ln 2 = 726,817 / 2^20
        u64::try_from((u128::from(mean) * minus_ln) >> 20).unwrap_or(u64::MAX).max(1)
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_mix_gives_its_published_numbers() {
        let mut state = 1_234_567;
        let numbers: Vec<u64> = (0..3).map(|_| split_mix(&mut state)).collect();
        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn xoshiro_gives_its_published_numbers() {
        let mut random = Random { state: [1, 2, 3, 4] };
        let numbers: Vec<u64> = (0..5).map(|_| random.next_u64()).collect();
        let published =
            [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386, 9_228_616_714_210_784_205];
        assert_eq!(numbers, published);
    }

    #[test]
    fn draws_keep_within_their_bounds_and_reach_them() {
        let mut random = Random::new(1);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            seen[(random.between(10, 16) - 10) as usize] = true;
            assert!(random.index(3) < 3);
        }
        assert_eq!(seen, [true; 7]);
        assert_eq!(random.between(5, 5), 5);
        assert!(!random.percent(0) && random.percent(100));
    }

    #[test]
    fn pauses_have_the_distribution_of_independent_events() {
        let mut random = Random::new(2);
        let (mut sum, mut longer_than_mean, count) = (0, 0, 100_000);
        for _ in 0..count {
            let pause = random.pause(1_000_000);
            sum += pause;
            longer_than_mean += u64::from(pause > 1_000_000);
        }
        let mean = sum / count;
        assert!((980_000..1_020_000).contains(&mean), "mean {mean}");
        // 1/e of them.
        assert!((36_000..37_600).contains(&longer_than_mean), "{longer_than_mean} longer than the mean");
    }

    #[test]
    fn forks_are_independent_of_each_other() {
        let (mut one, mut other) = (Random::new(3), Random::new(3));
        let (mut first, _) = (one.fork(), one.fork());
        let mut same = other.fork();
        assert_eq!(first.next_u64(), same.next_u64());
        assert_ne!(Random::new(3).next_u64(), Random::new(4).next_u64());
    }
}
