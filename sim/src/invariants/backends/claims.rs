//! What each director has been told of where users are: by its own answers, by login processes, and by the lines that
//! reached it from others. Not what it made of that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use director_core::wire::ring::Origin;

use super::RESOLVE_MICROS;

/// For so long after he would have expired a user is kept about whom the ring is being asked.
const WEAK_KEEP_SECS: u64 = 30;

/// That a user is on a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which.
    pub backend: IpAddr,
    /// Since when he was last seen there, by the clock of who has seen him and of who was told.
    pub timestamp_secs: u64,
    /// When the director was first told, without having forgotten it meanwhile.
    pub first_micros: u64,
    /// When it was last told something newer.
    pub last_micros: u64,
    /// When the director began to move him elsewhere, if nobody has told it since that he is here.
    pub left_micros: Option<u64>,
    /// When it was first told again that he is here, after it had last moved him elsewhere.
    pub again_micros: Option<u64>,
    /// When it was first told that he is elsewhere, or said so, if it has neither been told nor said since that he is here.
    pub elsewhere_micros: Option<u64>,
}

/// A line that moves a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Who.
    pub user: usize,
    /// Where to.
    pub backend: IpAddr,
    /// Whose line it is.
    pub origin: Origin,
}

/// A line that tells of a move's kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Whose.
    pub user: usize,
    /// Where he moves to.
    pub backend: IpAddr,
}

/// All that directors have been told.
#[derive(Debug)]
pub struct Claims {
    /// By director, then user.
    told: Vec<Vec<Vec<Claim>>>,
    /// When each director last moved a user away from wherever he was, by the same.
    moved_micros: Vec<Vec<Option<u64>>>,
    users: BTreeMap<u32, usize>,
    expire_secs: u64,
    /// The backends that each director was told of: who is on another is not known to it, for it ignores that. `None`:
    /// all, because it has never started.
    backends: Vec<Option<BTreeSet<IpAddr>>>,
    /// The live HOST lines that each has seen: whose, and the number.
    hosts_seen: Vec<BTreeSet<(SocketAddr, u32)>>,
    /// The tags of backends in configurations.
    configured_tags: BTreeMap<IpAddr, Vec<u8>>,
    /// The tag with which each director has seen each backend last.
    tags: Vec<BTreeMap<IpAddr, Vec<u8>>>,
    /// The backend that one has just seen with another tag.
    retagged: Option<IpAddr>,
}

impl Claims {
    /// Nobody was told anything. `hashes` are those of the users.
    pub fn new(directors: usize, hashes: &[u32], expire_secs: u32) -> Self {
        Self {
            told: vec![vec![Vec::new(); hashes.len()]; directors],
            moved_micros: vec![vec![None; hashes.len()]; directors],
            users: hashes.iter().enumerate().map(|(user, &hash)| (hash, user)).collect(),
            expire_secs: expire_secs.into(),
            backends: vec![None; directors],
            hosts_seen: vec![BTreeSet::new(); directors],
            configured_tags: BTreeMap::new(),
            tags: vec![BTreeMap::new(); directors],
            retagged: None,
        }
    }

    /// With these tags of the backends in configurations.
    pub fn with_tags(mut self, backends: Vec<(IpAddr, &str)>) -> Self {
        self.configured_tags = backends.into_iter().map(|(backend, tag)| (backend, tag.into())).collect();
        self
    }

    /// A director starts again, with these backends in its configuration.
    pub fn forget(&mut self, director: usize, backends: BTreeSet<IpAddr>) {
        let configured = self.configured_tags.iter().filter(|(backend, _)| backends.contains(*backend));
        self.tags[director] = configured.map(|(backend, tag)| (*backend, tag.clone())).collect();
        self.backends[director] = Some(backends);
        self.hosts_seen[director].clear();
        self.told[director].iter_mut().for_each(Vec::clear);
        self.moved_micros[director].fill(None);
    }

    /// A director is told of a backend.
    pub fn add(&mut self, director: usize, backend: IpAddr) {
        if let Some(backends) = &mut self.backends[director] {
            backends.insert(backend);
        }
    }

    /// A director removes a backend.
    pub fn remove(&mut self, director: usize, backend: IpAddr) {
        if let Some(backends) = &mut self.backends[director] {
            backends.remove(&backend);
        }
        self.tags[director].remove(&backend);
        self.flush(director, backend);
    }

    /// A director takes over these backends, and has no others then.
    pub fn keep_only(&mut self, director: usize, backends: &BTreeSet<IpAddr>) {
        let gone: Vec<IpAddr> = match &self.backends[director] {
            Some(known) => known.difference(backends).copied().collect(),
            None => Vec::new(),
        };
        for backend in gone {
            self.remove(director, backend);
        }
    }

    /// A director sees a backend with that tag.
    fn see_tag(&mut self, director: usize, backend: IpAddr, tag: Option<&[u8]>) {
        if let Some(tag) = tag
            && self.tags[director].insert(backend, tag.to_vec()).is_some_and(|before| before != tag)
        {
            self.retagged = Some(backend);
        }
    }

    /// The backend that a director has seen with another tag in the last line that it has heard or said.
    pub fn take_retagged(&mut self) -> Option<IpAddr> {
        self.retagged.take()
    }

    /// A director forgets who is on a backend.
    fn flush(&mut self, director: usize, backend: IpAddr) {
        for claims in &mut self.told[director] {
            claims.retain(|claim| claim.backend != backend);
        }
    }

    /// A director sees that a user is on a backend.
    pub fn note(&mut self, director: usize, user: usize, backend: IpAddr, timestamp_secs: u64, now: u64) {
        self.claim(director, user, backend, (timestamp_secs, timestamp_secs), now);
        self.seen_at(director, user, backend, now);
    }

    /// A director is told of a user who was last seen at the first of these times, when its clock says the second.
    fn claim(
        &mut self,
        director: usize,
        user: usize,
        backend: IpAddr,
        (timestamp_secs, clock_secs): (u64, u64),
        now: u64,
    ) {
        let expire_secs = self.expire_secs;
        let claims = &mut self.told[director][user];
        match claims.iter_mut().find(|claim| claim.backend == backend) {
            Some(claim) => {
                if claim.left_micros.take().is_some() {
                    claim.again_micros = Some(now);
                }
                if claim.timestamp_secs + expire_secs <= clock_secs {
                    claim.first_micros = now;
                }
                if timestamp_secs > claim.timestamp_secs {
                    claim.timestamp_secs = timestamp_secs;
                    claim.last_micros = now;
                }
            }
            None => {
                claims.push(Claim {
                    backend,
                    timestamp_secs,
                    first_micros: now,
                    last_micros: now,
                    left_micros: None,
                    again_micros: None,
                    elsewhere_micros: None,
                });
            }
        }
    }

    /// A director was told that a user is on a backend, or has said so.
    fn seen_at(&mut self, director: usize, user: usize, backend: IpAddr, now: u64) {
        for claim in &mut self.told[director][user] {
            if claim.backend == backend {
                claim.elsewhere_micros = None;
            } else {
                claim.elsewhere_micros.get_or_insert(now);
            }
        }
    }

    /// A director says where a user is: there it has him.
    pub fn say(&mut self, director: usize, line: &[u8], now: u64) {
        let mut words = line.split(|&byte| byte == b'\t');
        if words.next() == Some(b"USER")
            && let Some(&user) = words.next().and_then(read).and_then(|hash: u32| self.users.get(&hash))
            && let Some(backend) = words.next().and_then(read)
        {
            self.seen_at(director, user, backend, now);
        } else if let Some(host) = line.strip_prefix(b"HOST\t")
            && let Some(host) = Host::read(host)
        {
            self.see_tag(director, host.backend, host.tag);
        }
    }

    /// A login process tells its director that a user is still here: the director knows where, or nobody does. It has him
    /// on one backend only. If it was told of two, it has decided for one within [`RESOLVE_MICROS`], and says which; what
    /// it has heard of the other before that is not refreshed any more.
    pub fn mention(&mut self, director: usize, user: usize, clock_secs: u64, now: u64) {
        let expire_secs = self.expire_secs;
        let has_him = |claim: &Claim| claim.elsewhere_micros.is_none_or(|at| now < at + RESOLVE_MICROS);
        for claim in self.told[director][user].iter_mut().filter(|claim| has_him(claim)) {
            if claim.timestamp_secs + expire_secs > clock_secs && clock_secs > claim.timestamp_secs {
                claim.timestamp_secs = clock_secs;
                claim.last_micros = now;
            }
        }
    }

    /// A director moves a user away from wherever he is, except if that is the backend that he moves to.
    pub fn leave(&mut self, director: usize, user: usize, to: Option<IpAddr>, now: u64) {
        self.moved_micros[director][user] = Some(now);
        for claim in self.told[director][user].iter_mut().filter(|claim| Some(claim.backend) != to) {
            (claim.left_micros, claim.again_micros) = (Some(now), None);
        }
    }

    /// When a director last moved a user: since then it has held that he is elsewhere.
    pub fn moved_micros(&self, director: usize, user: usize) -> Option<u64> {
        self.moved_micros[director][user]
    }

    /// A line of another director reaches one. Returns the move, if it is one.
    pub fn hear(&mut self, director: usize, line: &[u8], clock_secs: u64, now: u64) -> Option<Moved> {
        let mut words = line.split(|&byte| byte == b'\t');
        let word = words.next()?;
        let (skip, is_move) = match word {
            b"USER" | b"U" => (0, false),
            b"USER-WEAK" => (3, false),
            b"USER-MOVE" => (3, true),
            b"HOST" => {
                let host = Host::read(line.strip_prefix(b"HOST\t")?)?;
                // A copy of what was here before is no news.
                if host.of.is_some_and(|of| !self.hosts_seen[director].insert(of)) {
                    return None;
                }
                self.add(director, host.backend);
                self.see_tag(director, host.backend, host.tag);
                return None;
            }
            b"HOST-REMOVE" | b"HOST-FLUSH" => {
                let backend: IpAddr = read(words.nth(3)?)?;
                if word == b"HOST-REMOVE" {
                    self.remove(director, backend);
                } else {
                    self.flush(director, backend);
                }
                return None;
            }
            _ => return None,
        };
        let mut origin = Vec::new();
        for _ in 0..skip {
            origin.push(words.next()?);
        }
        let user = *self.users.get(&read(words.next()?)?)?;
        let backend = read(words.next()?)?;
        if self.backends[director].as_ref().is_some_and(|backends| !backends.contains(&backend)) {
            return None;
        }
        let said_secs = words.next().and_then(read);
        // That somebody asks whether he is still here, or has heard that question, is no sign of him, to those who know him.
        let is_question = word == b"USER-WEAK" || word == b"U" && words.next() == Some(b"w");
        let known = self.told(director, user, backend).filter(|_| is_question).map(|claim| claim.timestamp_secs);
        let known_secs = known.filter(|secs| secs + self.expire_secs + WEAK_KEEP_SECS > clock_secs);
        let timestamp_secs = known_secs.or(said_secs).unwrap_or(clock_secs).min(clock_secs);
        self.claim(director, user, backend, (timestamp_secs, clock_secs), now);
        // What has expired is ignored.
        if timestamp_secs + self.expire_secs > clock_secs {
            self.seen_at(director, user, backend, now);
        }
        let [ip, port, seq] = origin[..] else { return None };
        let origin = Origin { address: SocketAddr::new(read(ip)?, read(port)?), seq: read(seq)? };
        is_move.then_some(Moved { user, backend, origin })
    }

    /// USER-KILLED that says where its user moves to.
    pub fn kill(&self, line: &[u8]) -> Option<Kill> {
        let mut words = line.strip_prefix(b"USER-KILLED\t")?.split(|&byte| byte == b'\t');
        let user = *self.users.get(&read(words.next()?)?)?;
        Some(Kill { user, backend: read(words.nth(4)?)? })
    }

    /// What a director was told of a user on a backend, if by its clock that has not expired.
    pub fn held(&self, director: usize, user: usize, backend: IpAddr, clock_secs: u64) -> Option<Claim> {
        self.told(director, user, backend).filter(|claim| claim.timestamp_secs + self.expire_secs > clock_secs)
    }

    /// Whether a director was told of a user, on whichever backend, and by its clock that has not expired.
    pub fn knows(&self, director: usize, user: usize, clock_secs: u64) -> bool {
        self.told[director][user].iter().any(|claim| claim.timestamp_secs + self.expire_secs > clock_secs)
    }

    /// The same, expired or not.
    pub fn told(&self, director: usize, user: usize, backend: IpAddr) -> Option<Claim> {
        self.told[director][user].iter().find(|claim| claim.backend == backend).copied()
    }
}

/// What HOST says.
struct Host<'a> {
    /// Whose it is, and its number there. `None`: it is of a handshake.
    of: Option<(SocketAddr, u32)>,
    backend: IpAddr,
    /// `None`: it does not say so.
    tag: Option<&'a [u8]>,
}

impl<'a> Host<'a> {
    /// Reads what comes after the line's first word.
    fn read(words: &'a [u8]) -> Option<Self> {
        let words: Vec<&[u8]> = words.split(|&byte| byte == b'\t').collect();
        let word = |n: usize| words.get(n).copied();
        match word(3).and_then(read) {
            Some(backend) => {
                let address = SocketAddr::new(read(word(0)?)?, read(word(1)?)?);
                Some(Self { of: Some((address, read(word(2)?)?)), backend, tag: word(5) })
            }
            None => Some(Self { of: None, backend: read(word(0)?)?, tag: word(2) }),
        }
    }
}

fn read<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_claims_until_they_expire_or_are_forgotten() {
        let mut claims = Claims::new(2, &[7, 8], 20);
        let backend = "10.2.0.1".parse().unwrap();
        assert_eq!(claims.hear(0, b"USER\t8\t10.2.0.1\t100", 101, 1), None);
        let claim = claims.held(0, 1, backend, 119).unwrap();
        assert_eq!((claim.timestamp_secs, claim.first_micros), (100, 1));
        assert_eq!((claims.held(0, 1, backend, 120), claims.held(1, 1, backend, 100)), (None, None));
        claims.mention(0, 1, 119, 2);
        assert_eq!(claims.held(0, 1, backend, 138).unwrap().last_micros, 2);
        claims.mention(0, 1, 139, 3);
        assert_eq!(claims.held(0, 1, backend, 139), None, "what has expired is not known any more");
        claims.hear(0, b"USER\t8\t10.2.0.1\t130", 140, 3);
        let first_micros = claims.held(0, 1, backend, 140).map(|claim| claim.first_micros);
        assert_eq!(first_micros, Some(3), "it was told again, though of a time before it had expired");
        let moved = claims.hear(1, b"USER-MOVE\t10.1.0.1\t9090\t4\t7\t10.2.0.1", 50, 4);
        let origin = Origin { address: "10.1.0.1:9090".parse().unwrap(), seq: 4 };
        assert_eq!(moved, Some(Moved { user: 0, backend, origin }));
        assert!(claims.held(1, 0, backend, 50).is_some());
        claims.hear(1, b"HOST-FLUSH\t10.1.0.1\t9090\t5\t10.2.0.1", 50, 5);
        assert!(claims.held(1, 0, backend, 50).is_none());
        assert_eq!(claims.hear(1, b"USER\tx", 50, 6), None);
    }

    #[test]
    fn a_question_about_a_user_does_not_keep_him() {
        let backend = "10.2.0.1".parse().unwrap();
        for (question, asked_secs, until) in [
            ("USER-WEAK\t10.1.0.1\t9090\t4\t7\t10.2.0.1", 119, 120),
            ("USER-WEAK\t10.1.0.1\t9090\t4\t7\t10.2.0.1", 149, 120),
            ("USER-WEAK\t10.1.0.1\t9090\t4\t7\t10.2.0.1", 150, 170),
            ("U\t7\t10.2.0.1\t118\tw", 119, 120),
            ("U\t7\t10.2.0.1\t148\tw", 149, 120),
            ("U\t7\t10.2.0.1\t148\tw", 150, 168),
            ("U\t7\t10.2.0.1\t118\t-\t1", 119, 138),
            ("U\t7\t10.2.0.1\t118", 119, 138),
        ] {
            let mut claims = Claims::new(1, &[7], 20);
            claims.hear(0, b"USER\t7\t10.2.0.1\t100", 101, 1);
            claims.hear(0, question.as_bytes(), asked_secs, 2);
            let held = |secs| claims.held(0, 0, backend, secs).is_some();
            assert!(held(until - 1) && !held(until), "{question} at {asked_secs}");
        }
    }

    #[test]
    fn who_is_still_here_is_where_the_director_has_him() {
        let [here, there]: [IpAddr; 2] = ["10.2.0.1", "10.2.0.2"].map(|ip| ip.parse().unwrap());
        for (said, after_micros, is_refreshed) in [
            (None, RESOLVE_MICROS - 1, true),
            (None, RESOLVE_MICROS, false),
            (Some("USER\t7\t10.2.0.2\t101"), RESOLVE_MICROS, false),
            (Some("USER\t7\t10.2.0.1\t101"), RESOLVE_MICROS, true),
            (Some("USER\t8\t10.2.0.1\t101"), RESOLVE_MICROS, false),
        ] {
            let mut claims = Claims::new(1, &[7, 8], 60);
            claims.note(0, 0, here, 100, 0);
            claims.note(0, 0, there, 100, 5);
            claims.say(0, said.unwrap_or_default().as_bytes(), 5);
            claims.mention(0, 0, 140, 5 + after_micros);
            assert_eq!(claims.held(0, 0, here, 170).is_some(), is_refreshed, "{said:?} {after_micros}");
            let has_there = said != Some("USER\t7\t10.2.0.1\t101");
            claims.mention(0, 0, 141, 7 + after_micros);
            assert_eq!(claims.held(0, 0, there, 170).is_some(), has_there, "{said:?} {after_micros}");
        }
    }

    #[test]
    fn a_user_on_a_backend_that_a_director_was_not_told_of_is_not_known_to_it() {
        let mut claims = Claims::new(1, &[7], 20);
        let backend: IpAddr = "10.2.0.1".parse().unwrap();
        claims.forget(0, BTreeSet::from(["10.2.0.2".parse().unwrap()]));
        for (told, is_known) in [
            (None, false),
            (Some("HOST\t10.2.0.1\t100\t\tU0\t"), true),
            (Some("HOST-REMOVE\t10.1.0.1\t9090\t5\t10.2.0.1"), false),
            (Some("HOST\t10.1.0.1\t9090\t6\t10.2.0.1\t100\t\tU0\t"), true),
            (Some("HOST-REMOVE\t10.1.0.1\t9090\t7\t10.2.0.1"), false),
            (Some("HOST\t10.1.0.1\t9090\t6\t10.2.0.1\t100\t\tU0\t"), false),
            (Some("HOST\t10.1.0.1\t9090\t8\t10.2.0.1\t100\t\tU0\t"), true),
        ] {
            claims.hear(0, told.unwrap_or_default().as_bytes(), 50, 1);
            claims.hear(0, b"USER\t7\t10.2.0.1\t45", 50, 2);
            assert_eq!(claims.held(0, 0, backend, 50).is_some(), is_known, "{told:?}");
        }
    }

    #[test]
    fn a_backend_with_another_tag_than_before_is_noticed_once_by_each() {
        let backend: IpAddr = "10.2.0.1".parse().unwrap();
        let mut claims = Claims::new(2, &[7], 20).with_tags(vec![(backend, "")]);
        claims.forget(0, BTreeSet::from([backend]));
        claims.forget(1, BTreeSet::new());
        for (director, line, is_another) in [
            (0, "HOST\t10.2.0.1\t100\t\tU0\t", false),
            (1, "HOST\t10.2.0.1\t100\tblue\tU0\t", false),
            (0, "HOST\t10.1.0.1\t9090\t6\t10.2.0.1\t100\tblue\tU0\t", true),
            (0, "HOST\t10.1.0.1\t9090\t7\t10.2.0.1\t50\tblue\tU0\t", false),
            (0, "HOST\t10.1.0.1\t9090\t8\t10.2.0.1\t50", false),
            (0, "HOST-REMOVE\t10.1.0.1\t9090\t9\t10.2.0.1", false),
            (0, "HOST\t10.1.0.1\t9090\t10\t10.2.0.1\t50\t\tU0\t", false),
            (0, "HOST\t10.1.0.1\t9090\t6\t10.2.0.1\t100\tblue\tU0\t", false),
        ] {
            claims.hear(director, line.as_bytes(), 50, 1);
            assert_eq!(claims.take_retagged(), is_another.then_some(backend), "{line}");
        }
        claims.say(0, b"HOST\t10.1.0.2\t9090\t1\t10.2.0.1\t50\tblue\tU0\t", 2);
        assert_eq!(claims.take_retagged(), Some(backend), "it settles on that");
        assert_eq!(claims.take_retagged(), None);
    }

    #[test]
    fn who_takes_over_the_backends_of_a_ring_knows_nobody_on_another() {
        let mut claims = Claims::new(1, &[7], 20);
        let [kept, gone]: [IpAddr; 2] = ["10.2.0.1", "10.2.0.2"].map(|ip| ip.parse().unwrap());
        claims.forget(0, BTreeSet::from([kept, gone]));
        claims.hear(0, b"USER\t7\t10.2.0.1\t45", 50, 1);
        claims.hear(0, b"USER\t7\t10.2.0.2\t45", 50, 1);
        claims.keep_only(0, &BTreeSet::from([kept]));
        assert!(claims.held(0, 0, kept, 50).is_some());
        assert_eq!(claims.held(0, 0, gone, 50), None);
    }

    #[test]
    fn lines_of_kills_say_whose_and_where_to() {
        let claims = Claims::new(1, &[7, 8], 20);
        let named = b"USER-KILLED\t8\t-\t10.1.0.2\t9090\t23\t10.2.0.4\t10.1.0.1\t9090\t18";
        assert_eq!(claims.kill(named), Some(Kill { user: 1, backend: "10.2.0.4".parse().unwrap() }));
        assert_eq!(claims.kill(b"USER-KILLED\t8"), None, "what has no name belongs to no move");
        assert_eq!(claims.kill(b"USER-MOVE\t10.1.0.1\t9090\t4\t7\t10.2.0.1"), None);
    }
}
