use std::collections::BTreeSet;

use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::*;

fn now(micros: u64, unix_secs: u64) -> Now {
    Now { instant: Instant::from_micros(micros), unix_secs }
}

fn at(unix_secs: u64) -> Now {
    now(unix_secs * 1_000_000, unix_secs)
}

fn user(hash: u32, timestamp_secs: u32) -> User {
    User {
        hash,
        tag: TagNumber(0),
        host: HostNumber(1),
        timestamp_secs,
        weak: false,
        killing: false,
        generation: Generation::NEVER,
    }
}

/// A map at second 1000 with users who have these timestamps, and the hashes 1, 2, 3 …
fn users(timestamps: &[u32]) -> Users {
    let mut users = Users::new(900, 7, at(1000));
    for (index, &timestamp_secs) in timestamps.iter().enumerate() {
        users.add(user(index as u32 + 1, timestamp_secs), at(1000));
    }
    users
}

fn find(users: &Users, hash: u32) -> UserSlot {
    users.find(hash, TagNumber(0)).unwrap()
}

/// The hashes of the rest of a walk.
fn rest(users: &mut Users, cursor: &mut Cursor) -> Vec<u32> {
    let mut hashes = Vec::new();
    while let Some(user) = users.next(cursor) {
        hashes.extend(user.map(|user| user.hash));
    }
    hashes
}

fn walk(users: &mut Users) -> Vec<u32> {
    let mut cursor = users.cursor();
    let hashes = rest(users, &mut cursor);
    users.end(cursor);
    hashes
}

/// Lets all expire that want to, and returns their hashes.
fn expire(users: &mut Users, now: Now) -> Vec<u32> {
    let mut hashes = Vec::new();
    let more = users.expire(now, usize::MAX, |user| {
        hashes.push(user.hash);
        Expired::Drop
    });
    assert!(!more);
    hashes
}

#[test]
fn what_is_set_is_found() {
    let mut users = users(&[]);
    assert_eq!(users.find(5, TagNumber(0)), None);
    let other_tag = User { tag: TagNumber(3), host: HostNumber(9), weak: true, ..user(5, 990) };
    users.add(other_tag, at(1000));
    assert_eq!(users.find(5, TagNumber(0)), None, "the same hash in another tag is somebody else");
    let slot = users.add(user(5, 995), at(1000));
    assert_eq!(users.get(slot), user(5, 995));
    users.set_weak(slot, true);
    users.set_killing(slot, true);
    users.set_host(slot, HostNumber(2));
    users.touch(slot, 999, at(1000));
    assert_eq!(users.get(slot), User { weak: true, killing: true, host: HostNumber(2), ..user(5, 999) });
    users.set_weak(slot, false);
    users.set_killing(slot, false);
    assert_eq!(users.get(find(&users, 5)), User { host: HostNumber(2), ..user(5, 999) });
    assert_eq!([1, 2, 9, 77].map(|host| users.count(HostNumber(host))), [0, 1, 1, 0]);
    users.remove(slot);
    assert_eq!((users.len(), users.find(5, TagNumber(0))), (1, None));
    let slot = users.find(5, TagNumber(3)).unwrap();
    assert_eq!(users.get(slot), other_tag);
    assert_eq!(format!("{users:?}"), "Users { expire_secs: 900, len: 1, retiring: 0, .. }");
}

#[test]
fn a_walk_is_oldest_first_and_in_order_of_coming_within_a_second() {
    let mut users = users(&[990, 980, 990, 970, 980, 1000, 990]);
    assert_eq!(walk(&mut users), [4, 2, 5, 1, 3, 7, 6]);
    let slot = find(&users, 5);
    users.touch(slot, 990, at(1000));
    let slot = find(&users, 4);
    users.touch(slot, 995, at(1000));
    assert_eq!(walk(&mut users), [2, 1, 3, 7, 5, 4, 6]);
}

#[test]
fn a_walk_survives_changes_and_does_not_see_who_came_or_changed() {
    let mut users = users(&[990, 991, 992, 993, 994, 995, 1000, 1000]);
    let mut cursor = users.cursor();
    let mut other = users.cursor();
    assert_eq!(users.next(&mut cursor), Some(Some(user(1, 990))));
    // The one before the cursor, the one behind it, and one later.
    for hash in [1, 2, 4] {
        users.remove(find(&users, hash));
    }
    // To the present second, which is that of the end, and to the next.
    let slot = find(&users, 5);
    users.touch(slot, 1000, at(1000));
    let slot = find(&users, 6);
    users.touch(slot, 1001, at(1001));
    users.add(user(20, 1001), at(1001));
    assert_eq!(rest(&mut users, &mut cursor), [3, 7, 8]);
    assert_eq!(users.next(&mut cursor), None, "the end stays the end");
    users.end(cursor);
    assert_eq!(expire(&mut users, at(1892)), [3]);
    assert_eq!(rest(&mut users, &mut other), [7, 8]);
    users.end(other);
    assert_eq!(walk(&mut users), [7, 8, 5, 6, 20]);
    users.order.check();
}

#[test]
fn a_walk_over_an_empty_map_ends_though_users_come() {
    let mut users = users(&[]);
    let mut cursor = users.cursor();
    users.add(user(1, 1000), at(1000));
    assert_eq!(users.next(&mut cursor), None);
    users.end(cursor);
    assert_eq!(walk(&mut users), [1]);
}

#[test]
fn a_step_of_a_walk_looks_at_a_bounded_number_of_slots() {
    let mut users = users(&[]);
    for hash in 1..=10_000 {
        users.add(user(hash, 1000), at(1000));
    }
    users.add(User { host: HostNumber(2), ..user(10_001, 1000) }, at(1000));
    let mut cursor = users.cursor();
    users.retire(HostNumber(1));
    let steps: Vec<_> = std::iter::from_fn(|| users.next(&mut cursor)).collect();
    let last = User { host: HostNumber(2), ..user(10_001, 1000) };
    assert_eq!(steps, [None, None, Some(last)]);
    users.end(cursor);
}

#[test]
fn users_expire_in_their_second_and_not_before() {
    let mut users = users(&[990, 100, 101, 101, 1000]);
    assert_eq!(expire(&mut users, at(1000)), [2]);
    assert_eq!(users.next_expiry(), Some(at(1001).instant));
    assert_eq!(expire(&mut users, at(1001)), [3, 4]);
    assert_eq!(users.next_expiry(), Some(at(1890).instant));
    assert_eq!(expire(&mut users, at(1889)), []);
    assert_eq!(expire(&mut users, at(5000)), [1, 5]);
    assert_eq!((users.next_expiry(), users.len()), (None, 0));
}

#[test]
fn the_next_expiry_is_never_too_early_and_never_over_a_second_late() {
    for phase_micros in [0, 1, 333_333, 999_999] {
        // The same moment on both clocks; Unix time comes without its fraction.
        let clock = |micros: u64| now(micros, 1000 + (micros + phase_micros) / 1_000_000);
        let mut users = Users::new(10, 7, clock(0));
        users.add(user(1, 1000), clock(0));
        for start in (0..10_000_000 - phase_micros).step_by(700_001) {
            assert_eq!(expire(&mut users, clock(start)), []);
            let next = users.next_expiry().unwrap().as_micros();
            let exact = 10_000_000 - phase_micros;
            assert!((exact..=exact + 1_000_000).contains(&next), "{next} {exact}");
            assert!(clock(next).unix_secs >= 1010);
        }
    }
}

#[test]
fn few_users_are_looked_at_when_few_are_asked_for() {
    let mut users = users(&[50; 10]);
    let mut asked = 0;
    assert!(users.expire(at(1000), 4, |_| {
        asked += 1;
        Expired::Drop
    }));
    assert_eq!((asked, users.len()), (4, 6));
    assert_eq!(users.next_expiry(), Some(at(1000).instant), "more are due");
    assert!(!users.expire(at(1000), 6, |_| Expired::Drop));
    assert_eq!(users.len(), 0);
}

#[test]
fn kept_users_are_asked_about_again_when_wanted() {
    let mut users = users(&[100]);
    for (second, secs) in [(1000, 30), (1030, 0), (1031, 5000)] {
        let mut asked = 0;
        let more = users.expire(at(second), 10, |_| {
            asked += 1;
            Expired::Keep { secs }
        });
        assert_eq!((asked, more), (1, false));
        let next = u64::from(secs.max(1)) + second;
        assert_eq!(users.next_expiry(), Some(at(next).instant));
        assert_eq!(expire(&mut users, at(next - 1)), []);
    }
    // A step back of the clock must not make him come up earlier than asked for.
    assert_eq!(expire(&mut users, now(2_000_000_000, 6029)), []);
    assert_eq!(expire(&mut users, now(2_001_000_000, 6028)), []);
    let slot = find(&users, 1);
    assert_eq!(users.get(slot), user(1, 100), "keeping changes nothing else");
    users.touch(slot, 6028, now(2_001_000_000, 6028));
    assert_eq!(users.next_expiry(), Some(Instant::from_micros(2_901_000_000)));
}

#[test]
fn nobody_lives_for_ever_when_the_clock_steps_back() {
    let mut users = Users::new(900, 7, now(0, 100_000));
    for hash in 1..=50 {
        users.add(user(hash, 99_950 + hash), now(0, 100_000));
    }
    // Back by a day, nearly.
    assert_eq!(expire(&mut users, now(1_000_000, 20_000)), []);
    assert_eq!(users.next_expiry(), Some(Instant::from_micros(901_000_000)));
    assert_eq!(walk(&mut users), (1..=50).collect::<Vec<_>>(), "they stay in order");
    users.order.check();
    users.add(user(51, 20_000), now(1_000_000, 20_000));
    assert_eq!(expire(&mut users, now(901_000_000, 20_900)), [51]);
    assert_eq!(users.get(find(&users, 1)), user(1, 20_900));
    assert_eq!(users.next_expiry(), Some(Instant::from_micros(1_801_000_000)));
    assert_eq!(expire(&mut users, now(1_801_000_000, 21_800)).len(), 50);
    // A timestamp in the future that came in from outside.
    users.add(user(1, u32::MAX), now(1_801_000_000, 21_800));
    assert_eq!(expire(&mut users, now(2_701_000_000, 22_700)), []);
    assert_eq!(expire(&mut users, now(3_601_000_000, 23_600)), [1]);
}

#[test]
fn a_small_step_back_shortens_no_life() {
    let mut users = users(&[1000]);
    assert_eq!(expire(&mut users, now(1_000_500_000, 990)), []);
    assert_eq!(expire(&mut users, now(1_900_500_000, 1890)), [], "looked at, but not expired");
    assert_eq!(users.next_expiry(), Some(Instant::from_micros(1_910_500_000)));
    assert_eq!(expire(&mut users, now(1_910_500_000, 1900)), [1]);
}

#[test]
fn clocks_at_their_ends_are_survived() {
    let mut users = Users::new(u32::MAX, 7, now(0, 0));
    users.add(user(1, 0), now(0, 0));
    users.add(user(2, u32::MAX), now(u64::MAX, u64::MAX));
    assert!(users.next_expiry().is_some());
    assert_eq!(expire(&mut users, now(u64::MAX, u64::MAX)), [1]);
    users.set_expire_secs(0, now(0, u64::MAX));
    assert_eq!(users.expire_secs(), 1);
    users.add(user(3, 7), now(0, u64::MAX));
    let more = users.expire(now(0, u64::MAX), 10, |_| Expired::Keep { secs: u32::MAX });
    assert_eq!((more, users.len()), (false, 2));
    assert!(users.next_expiry().unwrap() > Instant::from_micros(0));
    assert_eq!(expire(&mut users, now(0, 0)), []);
    users.order.check();
}

#[test]
fn a_new_expiry_holds_for_all() {
    let mut users = users(&[950, 990, 1000]);
    users.set_expire_secs(60, at(1000));
    assert_eq!(users.next_expiry(), Some(at(1010).instant));
    assert_eq!(expire(&mut users, at(1050)), [1, 2]);
    users.set_expire_secs(600, at(1050));
    assert_eq!(users.next_expiry(), Some(at(1600).instant));
    assert_eq!(expire(&mut users, at(1599)), []);
    assert_eq!(expire(&mut users, at(1600)), [3]);
}

#[test]
fn retired_users_are_gone_at_once_and_freed_in_steps() {
    let mut users = users(&[]);
    for hash in 1..=3000 {
        let host = HostNumber(1 + hash as u16 % 3);
        users.add(User { host, ..user(hash, 1000) }, at(1000));
    }
    users.retire(HostNumber(1));
    assert_eq!((users.len(), users.count(HostNumber(1)), users.count(HostNumber(2))), (2000, 0, 1000));
    assert_eq!(users.find(3, TagNumber(0)), None);
    assert_eq!(walk(&mut users).len(), 2000);
    let mut done = Vec::new();
    users.sweep(1500, &mut done);
    assert!(done.is_empty() && users.needs_sweep());
    // Another one in the middle of the pass, and one that nobody holds.
    users.retire(HostNumber(2));
    users.retire(HostNumber(40));
    // One of the retired is replaced, one expires.
    users.add(User { host: HostNumber(9), ..user(3, 1000) }, at(1000));
    assert!(users.find(3, TagNumber(0)).is_some());
    let mut steps = 0;
    while users.needs_sweep() {
        users.sweep(100, &mut done);
        steps += 1;
        assert!(steps < 100);
    }
    done.sort();
    assert_eq!(done, [1, 2, 40].map(HostNumber));
    assert_eq!(users.len(), 1001);
    assert_eq!(users.order.check().len(), 1001);
    // The numbers are free for others, with another tag too.
    users.add(User { host: HostNumber(1), tag: TagNumber(5), ..user(3, 1000) }, at(1000));
    users.retire(HostNumber(1));
    assert_eq!(expire(&mut users, at(1900)).len(), 1001, "a retired user expires without a word");
    done.clear();
    users.sweep(0, &mut done);
    assert_eq!(done, [HostNumber(1)]);
    assert!(!users.needs_sweep());
}

#[test]
fn memory_per_user_is_small_and_given_back() {
    let mut users = Users::new(900, 7, at(1_000_000));
    let empty = users.allocated_bytes();
    assert!(empty < 10_000, "{empty}");
    let mut len = 0;
    for size in [100_000, 300_000, 700_000, 1_000_000] {
        while len < size {
            len += 1;
            // Any order of timestamps, as hashes are any numbers.
            let hash = (len as u32).wrapping_mul(2_654_435_761);
            users.add(user(hash, 1_000_000 - hash % 900), at(1_000_000));
        }
        let bytes = users.allocated_bytes() as f64 / len as f64;
        assert!(bytes < 30.0, "{bytes} bytes a user for {len}");
    }
    assert_eq!(expire(&mut users, at(1_000_500)).len(), users_older_than(500, len));
    let bytes = users.allocated_bytes();
    assert!(bytes < 30 * len, "{bytes} bytes");
    assert_eq!(users.len() + users_older_than(500, len), len);
    expire(&mut users, at(1_000_900));
    let bytes = users.allocated_bytes();
    assert!(bytes < 64_000, "{bytes} bytes for nobody");
    assert_eq!((users.order.nodes.len(), users.index.len()), (1, 0));
}

#[test]
fn users_who_come_and_go_take_the_places_of_others() {
    let mut users = users(&[]);
    for hash in 1..=10_000 {
        users.add(user(hash, 1000), at(1000));
    }
    let bytes = users.order.nodes.allocated_bytes();
    for hash in 10_001..=100_000_u32 {
        let leaves = hash - 10_000;
        users.remove(find(&users, leaves));
        users.add(user(hash, 1000), at(1000));
    }
    assert_eq!(users.order.nodes.allocated_bytes(), bytes);
}

/// How many of the users of `memory_per_user_is_small_and_given_back` are older than 900 s after that time.
fn users_older_than(secs: u32, len: usize) -> usize {
    (1..=len as u32).filter(|number| number.wrapping_mul(2_654_435_761) % 900 >= 900 - secs).count()
}

#[test]
fn users_who_are_each_older_than_the_one_before_find_their_place() {
    // With a search along the list this would take hours.
    let mut users = Users::new(4_000_000, 7, at(3_000_000));
    for hash in 1..=200_000 {
        users.add(user(hash, 3_000_000 - hash), at(3_000_000));
    }
    let mut cursor = users.cursor();
    assert_eq!(users.next(&mut cursor), Some(Some(user(200_000, 2_800_000))));
    users.end(cursor);
    assert!(users.allocated_bytes() < 100 * 200_000, "a sentinel for each user is the worst");
}

/// What the model knows: users in order of expiry.
struct Model {
    entries: Vec<(u32, User)>,
    expire_secs: u32,
    ahead_secs: u32,
    unix_secs: u32,
    retired: BTreeSet<HostNumber>,
}

impl Model {
    fn look_at_clock(&mut self, unix_secs: u32) {
        if unix_secs < self.unix_secs {
            for (second, _) in &mut self.entries {
                *second = (*second).min(unix_secs + self.ahead_secs);
            }
        }
        self.unix_secs = unix_secs;
    }

    fn position(&self, hash: u32, tag: TagNumber) -> Option<usize> {
        self.entries.iter().position(|(_, user)| (user.hash, user.tag) == (hash, tag))
    }

    fn place(&mut self, second: u32, user: User) {
        let position = self.entries.partition_point(|&(other, _)| other <= second);
        self.entries.insert(position, (second, user));
    }

    /// Returns whom it asked about, whether more are due, and whom it put back.
    fn expire(&mut self, max: usize, keep: impl Fn(User) -> Expired) -> (Vec<User>, bool, Vec<User>) {
        let (now, mut asked, mut put_back, mut looked_at) = (self.unix_secs, Vec::new(), Vec::new(), 0);
        while let Some(&(second, user)) = self.entries.first() {
            if second + self.expire_secs > now {
                break;
            }
            if looked_at == max {
                return (asked, true, put_back);
            }
            looked_at += 1;
            self.entries.remove(0);
            if user.timestamp_secs + self.expire_secs > now {
                let timestamp_secs = user.timestamp_secs.min(now);
                put_back.push(user);
                self.place(timestamp_secs, User { timestamp_secs, ..user });
                continue;
            }
            asked.push(user);
            if let Expired::Keep { secs } = keep(user) {
                self.ahead_secs = self.ahead_secs.max(secs.saturating_sub(self.expire_secs));
                self.place(now + secs - self.expire_secs, user);
            }
        }
        (asked, false, put_back)
    }
}

/// Something done to a map of few users.
#[derive(Clone, Debug)]
enum Step {
    Set { hash: u32, host: u16, age_secs: i32 },
    Host { hash: u32, host: u16, weak: bool, killing: bool },
    Remove { hash: u32, host: u16 },
    Retire { host: u16 },
    Sweep { max: usize },
    Clock { micros: u32, unix_secs: i16 },
    Expire { max: usize, keep: u32 },
    Settings { expire_secs: u32 },
    Start,
    Walk { cursor: usize, steps: usize },
    End { cursor: usize },
}

impl Arbitrary for Step {
    fn arbitrary(source: &mut Gen) -> Self {
        let (hash, host) = (u32::arbitrary(source) % 40 + 1, u16::arbitrary(source) % 6);
        let small = usize::from(u8::arbitrary(source));
        match u8::arbitrary(source) % 24 {
            0..8 => {
                Self::Set { hash, host, age_secs: *source.choose(&[0, 0, 0, 1, 2, 5, 30, 90, 200, -3, -300]).unwrap() }
            }
            8 => Self::Host { hash, host, weak: bool::arbitrary(source), killing: bool::arbitrary(source) },
            9 | 10 => Self::Remove { hash, host },
            11 => Self::Retire { host },
            12 | 13 => Self::Sweep { max: small % 32 },
            14..17 => {
                let unix_secs = *source.choose(&[0, 1, 1, 2, 10, 50, 100, 1000, -1, -3, -60, -1000]).unwrap();
                Self::Clock { micros: u32::arbitrary(source) % 5_000_000, unix_secs }
            }
            17 | 18 => Self::Expire { max: small, keep: u32::arbitrary(source) % 6 },
            19 => Self::Settings { expire_secs: u32::arbitrary(source) % 120 + 1 },
            20 => Self::Start,
            21 | 22 => Self::Walk { cursor: small, steps: usize::from(u8::arbitrary(source)) % 20 },
            _ => Self::End { cursor: small },
        }
    }
}

/// A walk under way: those who were there at its start and have not changed since, in order.
struct Walk {
    cursor: Cursor,
    expected: Vec<(u32, TagNumber)>,
    changed: BTreeSet<(u32, TagNumber)>,
}

fn tag_of(host: u16) -> TagNumber {
    TagNumber(host % 2)
}

fn behaves_like_the_model(steps: Vec<Step>) -> bool {
    let mut now = now(1_000_000, 5000);
    let mut users = Users::new(60, 99, now);
    let mut model =
        Model { entries: Vec::new(), expire_secs: 60, ahead_secs: 0, unix_secs: 5000, retired: BTreeSet::new() };
    let mut walks: Vec<Walk> = Vec::new();
    for step in steps {
        // Those who have left their place: open walks may or may not see them.
        let mut changed: Vec<(u32, TagNumber)> = Vec::new();
        match step {
            Step::Set { hash, host, age_secs } if !model.retired.contains(&HostNumber(host)) => {
                let timestamp_secs = (now.unix_secs as u32).saturating_sub_signed(age_secs);
                model.look_at_clock(now.unix_secs as u32);
                let tag = tag_of(host);
                let slot = users.find(hash, tag);
                let position = model.position(hash, tag);
                assert_eq!(slot.is_some(), position.is_some());
                let second = timestamp_secs.min(now.unix_secs as u32);
                if let (Some(slot), Some(position)) = (slot, position) {
                    users.touch(slot, timestamp_secs, now);
                    if model.entries[position].1.timestamp_secs != timestamp_secs {
                        let (_, user) = model.entries.remove(position);
                        model.place(second, User { timestamp_secs, ..user });
                        changed.push((hash, tag));
                    }
                } else {
                    let new = User {
                        hash,
                        tag,
                        host: HostNumber(host),
                        timestamp_secs,
                        weak: false,
                        killing: true,
                        generation: Generation::NEVER,
                    };
                    let slot = users.add(new, now);
                    assert_eq!(users.get(slot), new);
                    model.place(second, new);
                    changed.push((hash, tag));
                }
            }
            Step::Host { hash, host, weak, killing } if !model.retired.contains(&HostNumber(host)) => {
                if let Some(slot) = users.find(hash, tag_of(host)) {
                    users.set_host(slot, HostNumber(host));
                    users.set_weak(slot, weak);
                    users.set_killing(slot, killing);
                    let position = model.position(hash, tag_of(host)).unwrap();
                    let user = &mut model.entries[position].1;
                    (user.host, user.weak, user.killing) = (HostNumber(host), weak, killing);
                }
            }
            Step::Remove { hash, host } => {
                if let Some(slot) = users.find(hash, tag_of(host)) {
                    users.remove(slot);
                    let position = model.position(hash, tag_of(host)).unwrap();
                    model.entries.remove(position);
                    changed.push((hash, tag_of(host)));
                }
            }
            Step::Retire { host } => {
                let first = model.retired.insert(HostNumber(host));
                if first {
                    users.retire(HostNumber(host));
                    let gone = model.entries.extract_if(.., |(_, user)| user.host.0 == host);
                    changed.extend(gone.map(|(_, user)| (user.hash, user.tag)));
                }
            }
            Step::Sweep { max } => {
                let mut done = Vec::new();
                users.sweep(max, &mut done);
                assert!(done.iter().all(|host| model.retired.remove(host)), "only the retired, and once");
            }
            Step::Clock { micros, unix_secs } => {
                now.instant = now.instant + Duration::from_micros(micros.into());
                now.unix_secs = now.unix_secs.saturating_add_signed(unix_secs.into()).max(300);
            }
            Step::Expire { max, keep } => {
                model.look_at_clock(now.unix_secs as u32);
                let answer = |user: User| match (user.hash + keep) % 4 {
                    0 => Expired::Keep { secs: keep * 30 + 1 },
                    _ => Expired::Drop,
                };
                // Retired users count when users are counted that were looked at: compare with no limit, then.
                let max = if model.retired.is_empty() { max } else { usize::MAX };
                let mut asked = Vec::new();
                let more = users.expire(now, max, |user| {
                    asked.push(user);
                    answer(user)
                });
                let (expected, expected_more, put_back) = model.expire(max, answer);
                assert_eq!((&asked, more), (&expected, expected_more));
                if !more {
                    assert!(users.next_expiry().is_none_or(|next| next > now.instant));
                }
                changed.extend(asked.iter().chain(&put_back).map(|user| (user.hash, user.tag)));
            }
            Step::Settings { expire_secs } => {
                model.look_at_clock(now.unix_secs as u32);
                users.set_expire_secs(expire_secs, now);
                model.expire_secs = expire_secs;
            }
            Step::Start if walks.len() < 5 => {
                let expected = model.entries.iter().map(|(_, user)| (user.hash, user.tag)).collect();
                walks.push(Walk { cursor: users.cursor(), expected, changed: BTreeSet::new() });
            }
            Step::Walk { cursor, steps } if !walks.is_empty() => {
                let index = cursor % walks.len();
                let walk = &mut walks[index];
                for _ in 0..steps {
                    match users.next(&mut walk.cursor) {
                        None => assert_eq!(walk.expected, [], "nobody is left out"),
                        Some(None) => {}
                        Some(Some(user)) => {
                            let key = (user.hash, user.tag);
                            let position = model.position(user.hash, user.tag).expect("who is gone is not seen");
                            assert_eq!(model.entries[position].1, user);
                            if !walk.changed.contains(&key) {
                                assert_eq!(walk.expected.first(), Some(&key), "in order, and once");
                                walk.expected.remove(0);
                            }
                        }
                    }
                }
            }
            Step::End { cursor } if !walks.is_empty() => {
                let index = cursor % walks.len();
                users.end(walks.remove(index).cursor);
            }
            _ => {}
        }
        for walk in &mut walks {
            walk.expected.retain(|key| !changed.contains(key));
            walk.changed.extend(&changed);
        }
        assert_eq!(users.len(), model.entries.len());
        let seen: Vec<User> = users.order.check().into_iter().map(|(slot, _)| users.get(UserSlot(slot))).collect();
        assert_eq!(users.index.len(), seen.len());
        let seen: Vec<User> = seen.into_iter().filter(|user| !model.retired.contains(&user.host)).collect();
        assert!(
            seen.iter().eq(model.entries.iter().map(|(_, user)| user)),
            "{seen:?}
{:?}",
            model.entries
        );
        for host in 0..6 {
            let expected = model.entries.iter().filter(|(_, user)| user.host.0 == host).count();
            assert_eq!(users.count(HostNumber(host)), expected);
        }
        assert!(users.needs_sweep() != model.retired.is_empty());
    }
    for walk in walks {
        users.end(walk.cursor);
    }
    let mut done = Vec::new();
    while users.needs_sweep() {
        users.sweep(7, &mut done);
    }
    done.len() == model.retired.len()
        && done.into_iter().collect::<BTreeSet<_>>() == model.retired
        && users.order.check().len() == model.entries.len()
}

#[test]
fn a_map_behaves_like_a_simple_model() {
    QuickCheck::new().rng(Gen::new(400)).tests(500).quickcheck(behaves_like_the_model as fn(Vec<Step>) -> bool);
}

#[test]
fn every_change_of_a_user_clears_the_told_mark() {
    let now = Now { instant: Instant::from_micros(0), unix_secs: 1000 };
    let mut users = Users::new(60, 1, now);
    let user = User {
        hash: 7,
        tag: TagNumber(0),
        host: HostNumber(1),
        timestamp_secs: 1000,
        weak: false,
        killing: false,
        generation: Generation::NEVER,
    };
    let slot = users.add(user, now);
    assert!(!users.is_told(slot), "a new one is news");
    let changes: [fn(&mut Users, UserSlot, Now); 5] = [
        |users, slot, _| users.set_host(slot, HostNumber(2)),
        |users, slot, _| users.set_weak(slot, true),
        |users, slot, _| users.set_weak(slot, false),
        |users, slot, _| users.set_killing(slot, false),
        |users, slot, now| users.touch(slot, 999, now),
    ];
    for change in changes {
        users.set_told(slot);
        users.touch(slot, users.get(slot).timestamp_secs, now);
        assert!(users.is_told(slot), "the same timestamp is no change");
        change(&mut users, slot, now);
        assert!(!users.is_told(slot));
    }
}
