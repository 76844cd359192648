//! The part of a timeline that somebody wants to see.

use crate::plan::{Plan, username_hash};

/// What to show: everything, unless it is narrowed.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Up to this time, in microseconds since the start.
    pub until_micros: Option<u64>,
    /// What has to do with this director, counted from 1.
    pub director: Option<usize>,
    /// What has one of these words in it, in small letters.
    pub user: Vec<String>,
}

impl Filter {
    /// Only what names this user of the plan, given by hash or by name.
    #[must_use]
    pub fn with_user(mut self, plan: &Plan, user: &str) -> Self {
        let hash_of = |name: &str| username_hash().hash(name.as_bytes());
        let hash = user.parse().unwrap_or_else(|_| hash_of(user));
        self.user = vec![hash.to_string()];
        let names = (0..plan.users).map(|n| plan.user_name(n));
        self.user.extend(names.filter(|name| hash_of(name) == hash).map(|name| name.to_ascii_lowercase()));
        self
    }

    /// Whether that line of a timeline is to be shown.
    pub fn shows(&self, line: &str) -> bool {
        let (time, rest) = line.trim_start().split_once(' ').unwrap_or((line, ""));
        if self.until_micros.is_some_and(|until| micros(time).is_some_and(|at| at > until)) {
            return false;
        }
        // What happens to all of them is part of everybody's story.
        let place = rest.split_whitespace().next().unwrap_or_default();
        let everywhere = ["world", "!"].contains(&place);
        let directors = words(rest).any(is_director);
        let director = self.director.is_none_or(|n| {
            everywhere || (place == "fault" && !directors) || words(rest).any(|word| word == format!("d{n}"))
        });
        // TABs are shown as two characters, of which the second would stick to the word.
        let user = self.user.is_empty() || everywhere || {
            let rest = rest.replace("\\t", " ").to_ascii_lowercase();
            words(&rest).any(|word| self.user.iter().any(|user| user == word))
        };
        director && user
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '@' && c != '.').filter(|word| !word.is_empty())
}

fn is_director(word: &str) -> bool {
    word.strip_prefix('d').is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Seconds with six places, as a timeline has them.
fn micros(text: &str) -> Option<u64> {
    let (secs, rest) = text.split_once('.')?;
    Some(secs.parse::<u64>().ok()? * 1_000_000 + rest.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Fixed;

    const LINES: [&str; 6] = [
        "   1.000000 d1                 starts",
        "   2.000000 d1>d2#5            d1 -> USER\\t1234\\t10.2.0.1\\t77",
        "   3.000000 login>d12#6        d12 <- OK\\t1\\tuser=User0@example.com\\tproxy",
        "   4.000000 fault              the network parts: a chain",
        "   5.000000 fault              d2 is cut from d12",
        "   6.000000 world              faults stop",
    ];

    fn shown(filter: &Filter) -> Vec<usize> {
        (0..LINES.len()).filter(|&n| filter.shows(LINES[n])).collect()
    }

    #[test]
    fn lines_are_chosen_by_time_director_and_user() {
        let plan = Plan::draw(1, &Fixed { users: Some(3), ..Fixed::default() });
        assert_eq!(shown(&Filter::default()), [0, 1, 2, 3, 4, 5]);
        assert_eq!(shown(&Filter { until_micros: Some(3_000_000), ..Filter::default() }), [0, 1, 2]);
        assert_eq!(shown(&Filter { director: Some(1), ..Filter::default() }), [0, 1, 3, 5]);
        assert_eq!(shown(&Filter { director: Some(12), ..Filter::default() }), [2, 3, 4, 5]);
        assert_eq!(shown(&Filter::default().with_user(&plan, "1234")), [1, 5]);
        assert_eq!(shown(&Filter::default().with_user(&plan, "USER0@example.com")), [2, 5]);
        let hash = username_hash().hash(b"user0@example.com").to_string();
        assert_eq!(shown(&Filter::default().with_user(&plan, &hash)), [2, 5]);
    }
}
