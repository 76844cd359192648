//! Model login processes and LMTP servers that reach auth through a director, and the model auth servers behind it
//! (login protocol, "Login" and "Userdb").
//!
//! What auth says is known here word for word, so what a client gets can be checked word for word: each line as auth
//! said it, but for those that a director amends with a host.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::invariants::answers;
use crate::network::LinkId;
use crate::plan::{Fault, Plan, SECOND, username_hash};
use crate::random::Random;
use crate::trace::Assembler;

/// How long a director may take to close one side of a relay after the other has ended.
const CLOSE_MAX_MICROS: u64 = 5 * SECOND;

/// What is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// The auth client protocol.
    Login,
    /// The auth master protocol.
    Userdb,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Login, Self::Userdb];

    fn greeting(self) -> &'static [u8] {
        match self {
            Self::Login => b"VERSION\t1\t2\nCPID\t20040\n",
            Self::Userdb => b"VERSION\t1\t2\n",
        }
    }

    /// What auth says first.
    fn handshake(self) -> &'static str {
        match self {
            Self::Login => {
                "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t77\nCUID\t5\nCOOKIE\t8f1c1d7f00d95f10a1c0ffee0ddba11a\nDONE\n"
            }
            Self::Userdb => "VERSION\t1\t2\nSPID\t77\n",
        }
    }

    /// The command of the replies that a director amends.
    fn reply(self) -> &'static str {
        match self {
            Self::Login => "OK",
            Self::Userdb => "PASS",
        }
    }
}

/// A client's connection and the auth connection that its director made for it.
#[derive(Debug)]
struct Relay {
    director: usize,
    protocol: Protocol,
    /// `None`: the director could not connect to auth.
    auth: Option<LinkId>,
    client_lines: Assembler,
    /// What auth has said that need not wait for a lookup, and the client has not got yet.
    expected: VecDeque<String>,
    /// Replies that a director amends or may hold up, by their requests' ids.
    replies: BTreeMap<u64, Reply>,
    auth_lines: Assembler,
    /// What auth will do: when, for which request.
    work: VecDeque<(u64, u64)>,
    /// Requests that auth has not answered.
    asked: BTreeMap<u64, usize>,
    /// When auth went away.
    auth_gone_micros: Option<(u64, u64)>,
}

/// A reply of auth on its way to a client.
#[derive(Debug)]
struct Reply {
    user: usize,
    line: String,
    said_micros: u64,
    paused_micros: u64,
}

/// What a client has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// A user is to go to that backend; when auth had said who he is.
    Backend {
        /// Who.
        user: usize,
        /// Where to.
        backend: IpAddr,
        /// Whether he stays there (userdb clients come and go at once).
        stays: bool,
        /// Since when the director had looked for it.
        since_micros: u64,
        /// How long it had stood still until then.
        paused_micros: u64,
    },
    /// A user can't be sent anywhere now.
    TemporaryFailure,
    /// Something that nobody may say.
    Nonsense(String),
}

/// What an auth server does.
#[derive(Debug, PartialEq, Eq)]
pub enum Work {
    /// It says this.
    Say(String),
    /// It dies.
    Die,
}

/// All relays.
#[derive(Debug)]
pub struct Relays {
    /// By the client's connection.
    relays: BTreeMap<LinkId, Relay>,
    /// The client's connection of each auth connection.
    clients: BTreeMap<LinkId, LinkId>,
    by_director: BTreeMap<(usize, Protocol), LinkId>,
    /// The auth connection that has just been made, or refused, for a client that is being accepted.
    made: Option<Option<LinkId>>,
    names: Vec<String>,
    hashes: Vec<u32>,
    tags: Vec<&'static str>,
    refresh_secs: u32,
    next_id: u64,
    faulty: bool,
    random: Random,
}

impl Relays {
    /// Nobody has connected.
    pub fn new(plan: &Plan, random: Random) -> Self {
        let hash = username_hash();
        Self {
            hashes: (0..plan.users).map(|user| hash.hash(plan.user_name(user).as_bytes())).collect(),
            relays: BTreeMap::new(),
            clients: BTreeMap::new(),
            by_director: BTreeMap::new(),
            made: None,
            names: (0..plan.users).map(|user| plan.user_name(user)).collect(),
            tags: (0..plan.users).map(|user| plan.user_tag(user)).collect(),
            refresh_secs: plan.expire_secs / 2,
            next_id: 1,
            faulty: plan.faults.has(Fault::Auth),
            random,
        }
    }

    /// From now on nothing goes wrong, save with what is under way.
    pub fn calm_down(&mut self) {
        self.faulty = false;
    }

    /// A director connects to auth. False: nobody listens.
    pub fn accepts(&mut self) -> bool {
        !(self.faulty && self.random.percent(10))
    }

    /// The auth connection for the client that is being accepted is there, or was refused.
    pub fn auth_made(&mut self, link: Option<LinkId>) {
        self.made = Some(link);
    }

    /// What an auth server says first.
    pub fn auth_greeting(protocol: Protocol) -> Vec<u8> {
        protocol.handshake().as_bytes().to_vec()
    }

    /// A client has connected to its director. Returns what it says first; `None`: the director has not asked for auth.
    pub fn connected(
        &mut self,
        director: usize,
        protocol: Protocol,
        link: LinkId,
        now: u64,
        paused: u64,
    ) -> Option<Vec<u8>> {
        let auth = self.made.take()?;
        let relay = Relay {
            director,
            protocol,
            auth,
            client_lines: Assembler::default(),
            expected: protocol.handshake().lines().map(str::to_owned).collect(),
            replies: BTreeMap::new(),
            auth_lines: Assembler::default(),
            work: VecDeque::new(),
            asked: BTreeMap::new(),
            auth_gone_micros: auth.is_none().then_some((now, paused)),
        };
        if let Some(auth) = auth {
            self.clients.insert(auth, link);
        }
        self.relays.insert(link, relay);
        self.by_director.insert((director, protocol), link);
        Some(protocol.greeting().to_vec())
    }

    /// A director's process is gone.
    pub fn disconnected(&mut self, director: usize) {
        for protocol in Protocol::ALL {
            if let Some(link) = self.by_director.remove(&(director, protocol)) {
                self.forget(link);
            }
        }
    }

    /// A user logs in, or gets mail, through that director: the link and what to say on it.
    pub fn ask(&mut self, director: usize, protocol: Protocol) -> Option<(LinkId, Vec<u8>)> {
        let link = *self.by_director.get(&(director, protocol))?;
        let user = self.random.index(self.names.len());
        let id = self.next_id;
        self.next_id += 1;
        self.relays.get_mut(&link)?.asked.insert(id, user);
        let name = &self.names[user];
        let line = match protocol {
            Protocol::Login => format!(
                "AUTH\t{id}\tPLAIN\tservice=imap\tsession=s{id}\tlip=10.3.0.1\trip=10.4.0.1\tlport=143\tresp=AHg=\n"
            ),
            Protocol::Userdb => format!("PASS\t{id}\t{name}\tservice=lmtp\tlip=10.3.0.1\n"),
        };
        Some((link, line.into_bytes()))
    }

    /// Auth gets bytes of a client. Returns when it will have something to do.
    ///
    /// # Errors
    /// A line that no client has said.
    pub fn auth_received(&mut self, auth: LinkId, bytes: &[u8], now: u64) -> Result<Vec<u64>, String> {
        let Some(relay) = self.clients.get(&auth).and_then(|client| self.relays.get_mut(client)) else {
            return Ok(Vec::new());
        };
        let mut times = Vec::new();
        for line in relay.auth_lines.feed(bytes) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut words = line.split('\t');
            match (words.next(), words.next().and_then(|id| id.parse::<u64>().ok())) {
                (Some("VERSION" | "CPID"), Some(_)) => {}
                (Some("AUTH" | "PASS"), Some(id)) if relay.asked.contains_key(&id) => {
                    let usual = self.random.between(200, 100_000);
                    let slow = self.random.between(SECOND, 60 * SECOND);
                    let at = now + if self.faulty && self.random.percent(5) { slow } else { usual };
                    relay.work.push_back((at, id));
                    times.push(at);
                }
                _ => return Err(line),
            }
        }
        Ok(times)
    }

    /// What an auth server does now, if anything: ask until there is nothing.
    pub fn auth_works(&mut self, auth: LinkId, now: u64, paused_micros: u64) -> Option<Work> {
        let client = self.clients.get(&auth)?;
        let relay = self.relays.get_mut(client)?;
        let at = relay.work.iter().position(|(at, _)| *at <= now)?;
        let (_, id) = relay.work.remove(at)?;
        if self.faulty && self.random.percent(3) {
            return Some(Work::Die);
        }
        let user = relay.asked.remove(&id)?;
        let (name, reply) = (&self.names[user], relay.protocol.reply());
        let tag = match self.tags[user] {
            "" => String::new(),
            tag => format!("\tdirector_tag={tag}"),
        };
        let (line, amended) = match self.random.below(100) {
            0..4 if relay.protocol == Protocol::Userdb => (format!("NOTFOUND\t{id}"), false),
            0..4 => (format!("FAIL\t{id}\tuser={name}\treason=no"), false),
            4..8 => (format!("{reply}\t{id}\tuser={name}\tproxy\thost=10.9.9.9\tpass=pw"), false),
            8..12 => (format!("{reply}\t{id}\tuser={name}\tquota_rule=*:bytes=1"), false),
            12..20 => (format!("{reply}\t{id}\tuser=alias{id}\tdestuser={name}\tproxy=yes\tport=143{tag}"), true),
            _ => (format!("{reply}\t{id}\tuser={name}\tproxy\tport=143{tag}\tpass=pw"), true),
        };
        if amended {
            let reply = Reply { user, line: line.clone(), said_micros: now, paused_micros };
            relay.replies.insert(id, reply);
        } else {
            relay.expected.push_back(line.clone());
        }
        Some(Work::Say(line + "\n"))
    }

    /// A client gets bytes.
    pub fn received(&mut self, link: LinkId, bytes: &[u8]) -> Vec<Got> {
        let Some(relay) = self.relays.get_mut(&link) else { return Vec::new() };
        let mut all = Vec::new();
        for line in relay.client_lines.feed(bytes) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if relay.expected.front() == Some(&line) {
                relay.expected.pop_front();
                continue;
            }
            let id = line.split('\t').nth(1).and_then(|id| id.parse::<u64>().ok());
            let Some((id, reply)) = id.and_then(|id| Some((id, relay.replies.remove(&id)?))) else {
                all.push(Got::Nonsense(line));
                continue;
            };
            let added = line.strip_prefix(&reply.line);
            let backend = added.and_then(|added| decided(added, self.refresh_secs, self.hashes[reply.user]));
            all.push(match backend {
                Some(backend) => Got::Backend {
                    user: reply.user,
                    backend,
                    stays: relay.protocol == Protocol::Login,
                    since_micros: reply.said_micros,
                    paused_micros: reply.paused_micros,
                },
                None if line == format!("FAIL\t{id}\tcode=temp_fail") => Got::TemporaryFailure,
                None => Got::Nonsense(line),
            });
        }
        all
    }

    /// A client's connection has ended. Returns whether that is right: its auth server has gone.
    pub fn client_ended(&mut self, link: LinkId) -> Option<bool> {
        let relay = self.relays.get(&link)?;
        let right = relay.auth_gone_micros.is_some();
        self.by_director.remove(&(relay.director, relay.protocol));
        self.forget(link);
        Some(right)
    }

    /// An auth server has gone, or its director has closed the connection. True: the client is still there.
    pub fn auth_ended(&mut self, auth: LinkId, now: u64, paused: impl Fn(usize) -> u64) -> bool {
        let Some(client) = self.clients.remove(&auth) else { return false };
        let Some(relay) = self.relays.get_mut(&client) else { return false };
        relay.auth = None;
        relay.auth_gone_micros = Some((now, paused(relay.director)));
        true
    }

    /// Whose connection that is, as long as its client lives.
    pub fn director_of(&self, auth: LinkId) -> Option<usize> {
        Some(self.relays.get(self.clients.get(&auth)?)?.director)
    }

    /// What has taken too long: the director, and what it is. It is named once.
    pub fn late(&mut self, now: u64, paused: impl Fn(usize) -> u64) -> Vec<(usize, String)> {
        let mut late = Vec::new();
        for (link, relay) in &mut self.relays {
            let director = relay.director;
            let stood = |before: u64| paused(director) - before;
            if let Some((at, before)) = relay.auth_gone_micros
                && answers::is_late(at, now, stood(before), CLOSE_MAX_MICROS)
            {
                relay.auth_gone_micros = Some((u64::MAX, before));
                late.push((director, format!("keeps the connection #{link} of a client whose auth server has gone")));
            }
            relay.replies.retain(|id, reply| {
                let gone = relay.auth_gone_micros.is_some();
                let is_late =
                    answers::is_late(reply.said_micros, now, stood(reply.paused_micros), answers::LOOKUP_MAX_MICROS);
                if is_late && !gone {
                    late.push((director, format!("did not pass on auth's reply {id}, of user {}", reply.user)));
                }
                !is_late
            });
        }
        late
    }

    fn forget(&mut self, link: LinkId) {
        if let Some(auth) = self.relays.remove(&link).and_then(|relay| relay.auth) {
            self.clients.remove(&auth);
        }
    }
}

/// The backend in what a director has added to a reply of auth, if it is what it may add (ring protocol, "The anvil socket").
fn decided(added: &str, refresh_secs: u32, hash: u32) -> Option<IpAddr> {
    let (before, host) = added.split_once("\thost=")?;
    let (ip, after) = host.split_at(host.find('\t').unwrap_or(host.len()));
    let refresh = format!("\tproxy_refresh={refresh_secs}");
    // A director that has not found ipc just then adds what it would need to kick through anvil: both fields or none.
    let plain = before == refresh && after.is_empty();
    let for_anvil = before == format!("\tuser_director_backend={hash}/{ip}{refresh}")
        && after == format!("\tuser_director_hash={hash}");
    if plain || for_anvil { ip.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use crate::plan::{Faults, Fixed};

    #[test]
    fn a_client_gets_what_auth_says_word_for_word_and_the_host() {
        let fixed = Fixed { faults: Some(Faults::NONE), users: Some(1), ..Fixed::default() };
        let mut plan = Plan::draw(1, &fixed);
        plan.tags = false;
        let mut network = Network::new(plan.conditions.clone(), Random::new(1));
        let (client, _) = network.open(0, (0, ()), (0, ()));
        let (auth, _) = network.open(0, (0, ()), (0, ()));
        let mut relays = Relays::new(&plan, Random::new(1));
        assert!(relays.connected(0, Protocol::Login, client, 0, 0).is_none());
        relays.auth_made(Some(auth));
        assert!(relays.connected(0, Protocol::Login, client, 0, 0).unwrap().starts_with(b"VERSION\t1\t2\n"));
        let handshake = Relays::auth_greeting(Protocol::Login);
        assert_eq!(relays.received(client, &handshake), []);
        assert!(matches!(&relays.received(client, b"DONE\n")[..], [Got::Nonsense(_)]), "only once");
        let (mut amended, mut unchanged) = (0, 0);
        for _ in 0..100 {
            let (link, request) = relays.ask(0, Protocol::Login).unwrap();
            assert_eq!(link, client);
            let times = relays.auth_received(auth, &request, 0).unwrap();
            let Some(Work::Say(line)) = relays.auth_works(auth, times[0], 0) else { panic!("auth is silent") };
            let with_host = format!("{}\tproxy_refresh={}\thost=10.2.0.1\n", line.trim_end(), plan.expire_secs / 2);
            match &relays.received(client, line.as_bytes())[..] {
                [] => unchanged += 1,
                [Got::Nonsense(_)] => amended += 1,
                other => panic!("{other:?}"),
            }
            let again = relays.received(client, with_host.as_bytes());
            assert!(matches!(&again[..], [Got::Nonsense(_)]), "answered once: {again:?}");
        }
        assert!(amended > 70 && unchanged > 3, "{amended} {unchanged}");
        let (_, request) = relays.ask(0, Protocol::Login).unwrap();
        let times = relays.auth_received(auth, &request, 0).unwrap();
        let Some(Work::Say(line)) = relays.auth_works(auth, times[0], 0) else { panic!("auth is silent") };
        let with_host = format!("{}\tproxy_refresh={}\thost=10.2.0.1\n", line.trim_end(), plan.expire_secs / 2);
        assert!(matches!(
            &relays.received(client, with_host.as_bytes())[..],
            [Got::Backend { user: 0, stays: true, .. }]
        ));
        assert_eq!(relays.client_ended(client), Some(false));
    }

    #[test]
    fn a_director_adds_the_backend_and_all_or_nothing_for_anvil() {
        let backend = Some("10.2.0.1".parse().unwrap());
        let decided = |added: &str| decided(added, 30, 7);
        assert_eq!(decided("\tproxy_refresh=30\thost=10.2.0.1"), backend);
        let both = "\tuser_director_backend=7/10.2.0.1\tproxy_refresh=30\thost=10.2.0.1\tuser_director_hash=7";
        assert_eq!(decided(both), backend);
        for (right, wrong) in [
            ("7/10.2.0.1", "7/10.2.0.2"),
            ("7/10.2.0.1", "8/10.2.0.1"),
            ("hash=7", "hash=8"),
            ("refresh=30", "refresh=31"),
            ("\tuser_director_hash=7", ""),
            ("\tuser_director_backend=7/10.2.0.1", ""),
            ("host=10.2.0.1", "host="),
        ] {
            let line = both.replace(right, wrong);
            assert!(line != both && decided(&line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_relay_without_auth_must_end_soon() {
        let plan = Plan::draw(1, &Fixed::default());
        let mut network = Network::new(plan.conditions.clone(), Random::new(1));
        let (client, _) = network.open(0, (0, ()), (0, ()));
        let mut relays = Relays::new(&plan, Random::new(1));
        relays.auth_made(None);
        relays.connected(0, Protocol::Userdb, client, 0, 0);
        assert!(relays.late(CLOSE_MAX_MICROS, |_| 0).is_empty());
        assert_eq!(relays.late(CLOSE_MAX_MICROS + 1, |_| 0).len(), 1);
        assert!(relays.late(CLOSE_MAX_MICROS + 2, |_| 0).is_empty(), "it is named once");
        assert_eq!(relays.client_ended(client), Some(true));
    }
}
