//! A ring of directors.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clients::admin::HostLine;
use crate::clients::{Reply, UserLine};
use crate::director::{Director, Kind, Plan};
use crate::lab::Lab;
use crate::wait::{LIMIT, wait_for};

/// Directors on `.1`, `.2`, `.3`, … that are to form a ring.
#[derive(Debug)]
pub struct Ring {
    lab: Arc<Lab>,
    plan: Plan,
    members: Vec<Director>,
    folders: u32,
}

impl Ring {
    /// A plan for a ring of `count` directors with five untagged backends that need not exist.
    pub fn plan(lab: &Lab, count: u8) -> Plan {
        Plan {
            servers: (1..=count).map(|last| lab.ip(last)).collect(),
            mail_servers: "10.1.2.1-10.1.2.5".into(),
            user_expire_secs: 600,
            settings: String::new(),
            logins: None,
        }
    }

    /// Prepares directors of these kinds; none runs yet.
    pub fn prepare(lab: &Arc<Lab>, kinds: &[Kind], plan: &Plan) -> Self {
        let mut ring = Self { lab: Arc::clone(lab), plan: plan.clone(), members: Vec::new(), folders: 0 };
        for kind in kinds {
            ring.add(*kind);
        }
        ring
    }

    /// Starts directors of these kinds, and waits until they are one synced ring.
    ///
    /// # Panics
    /// If they never are.
    pub fn start(lab: &Arc<Lab>, kinds: &[Kind], plan: &Plan) -> Self {
        let mut ring = Self::prepare(lab, kinds, plan);
        for member in &mut ring.members {
            member.start();
        }
        ring.wait_until_up();
        ring.wait_synced();
        ring
    }

    /// Prepares one more director on the next address.
    pub fn add(&mut self, kind: Kind) -> usize {
        let last = u8::try_from(self.members.len() + 1).expect("few members");
        let member = self.make(kind, self.lab.ip(last));
        self.members.push(member);
        self.members.len() - 1
    }

    /// What directors that are added or put in place from now on are to have in common.
    pub fn set_plan(&mut self, plan: &Plan) {
        self.plan = plan.clone();
    }

    /// Whether all that run have this member in their lists, or none has.
    ///
    /// # Errors
    /// Who is different.
    pub fn check_listed(&self, ip: IpAddr, listed: bool) -> Result<(), String> {
        for member in self.running() {
            let members = member.admin().members().map_err(|error| error.to_string())?;
            if members.iter().any(|line| line.ip == Some(ip) && line.kind != "removed") != listed {
                return Err(format!("{} says {members:?}", member.ip()));
            }
        }
        Ok(())
    }

    /// Puts another director in the place of one that has been stopped.
    pub fn replace(&mut self, index: usize, kind: Kind) {
        let ip = self.plan.servers[index];
        self.members[index] = self.make(kind, ip);
    }

    fn make(&mut self, kind: Kind, ip: Ipv4Addr) -> Director {
        self.folders += 1;
        let folder = format!("{}-{}", ip.octets()[3], self.folders);
        Director::prepare(&self.lab, &folder, kind, ip, &self.plan)
    }

    /// The directors.
    pub fn members(&self) -> &[Director] {
        &self.members
    }

    /// The directors, to start and stop them.
    pub fn members_mut(&mut self) -> &mut [Director] {
        &mut self.members
    }

    /// One director.
    pub fn member(&self, index: usize) -> &Director {
        &self.members[index]
    }

    /// One director, to start and stop it.
    pub fn member_mut(&mut self, index: usize) -> &mut Director {
        &mut self.members[index]
    }

    /// The directors that run.
    pub fn running(&self) -> impl Iterator<Item = &Director> {
        self.members.iter().filter(|member| member.is_running())
    }

    /// Waits until all that run answer administrators.
    ///
    /// # Panics
    /// If one never does.
    pub fn wait_until_up(&self) {
        self.running().for_each(Director::wait_until_up);
    }

    /// Waits until all that run are one ring: each is connected to its neighbours and says that all is synced. Gives
    /// back how long that took.
    ///
    /// # Panics
    /// If they never are.
    pub fn wait_synced(&self) -> Duration {
        let start = Instant::now();
        wait_for("one synced ring", LIMIT * 2, || self.check_synced());
        start.elapsed()
    }

    /// Whether all that run are one synced ring.
    ///
    /// # Errors
    /// Who is not, and what he says.
    pub fn check_synced(&self) -> Result<(), String> {
        let running: Vec<_> = self.running().collect();
        let count = running.len();
        for (place, member) in running.iter().enumerate() {
            let members = member
                .try_admin()
                .and_then(|mut admin| admin.members())
                .map_err(|error| format!("{}: {error}", member.ip()))?;
            let has = |ip: IpAddr, kind: &str, status: &str| {
                members.iter().any(|line| line.ip == Some(ip) && line.kind == kind && line.status == status)
            };
            let mut good = has(member.ip(), "self", "ring synced");
            if count > 1 {
                good &= has(running[(place + 1) % count].ip(), "right", "synced");
                good &= has(running[(place + count - 1) % count].ip(), "left", "synced");
            }
            if !good {
                return Err(format!("{} says {members:?}", member.ip()));
            }
        }
        Ok(())
    }

    /// Waits until all that run give the same HOST-LIST, and gives it back.
    ///
    /// # Panics
    /// If they never do.
    pub fn wait_same_hosts(&self) -> Vec<HostLine> {
        self.wait_equal_hosts("the same HOST-LIST everywhere", Clone::clone)
    }

    /// As [`wait_same_hosts`](Self::wait_same_hosts), but the times of the last changes may differ: the original does
    /// not take over a newer one when nothing else differs.
    ///
    /// # Panics
    /// If they never agree.
    pub fn wait_same_hosts_but_times(&self) -> Vec<HostLine> {
        self.wait_equal_hosts("the same hosts everywhere", |host| HostLine { changed: 0, ..host.clone() })
    }

    fn wait_equal_hosts(&self, what: &str, compared: impl Fn(&HostLine) -> HostLine) -> Vec<HostLine> {
        wait_for(what, LIMIT, || {
            let mut lists: Vec<Vec<HostLine>> = Vec::new();
            for member in self.running() {
                let hosts =
                    member.try_admin().and_then(|mut admin| admin.hosts()).map_err(|error| error.to_string())?;
                lists.push(hosts.iter().map(&compared).collect());
            }
            if lists.windows(2).all(|pair| pair[0] == pair[1]) {
                Ok(lists.remove(0))
            } else {
                Err(format!("{lists:?}"))
            }
        })
    }

    /// Waits until all that run know the same users on the same backends, and gives these back.
    ///
    /// # Panics
    /// If they never do.
    pub fn wait_same_users(&self) -> Vec<UserLine> {
        wait_for("the same USER-LIST everywhere", LIMIT, || {
            let mut lists: Vec<Vec<UserLine>> = Vec::new();
            for member in self.running() {
                lists.push(member.try_admin().and_then(|mut admin| admin.users()).map_err(|error| error.to_string())?);
            }
            // When a user expires may differ by what is still on its way: a refresh within the same quarter is not sent.
            let places = |list: &[UserLine]| list.iter().map(|user| (user.hash, user.ip)).collect::<Vec<_>>();
            if lists.windows(2).all(|pair| places(&pair[0]) == places(&pair[1])) {
                Ok(lists.remove(0))
            } else {
                Err(lists.iter().map(|list| format!("{} users ", list.len())).collect::<String>())
            }
        })
    }

    /// Waits until all that run know where a user is.
    ///
    /// # Panics
    /// If one never does.
    pub fn wait_known(&self, user: &str, tag: &str, ip: IpAddr) {
        wait_for(&format!("{user} on {ip} everywhere"), LIMIT, || {
            self.running().try_for_each(|member| {
                let state = member.try_admin().and_then(|mut admin| admin.user(user, tag));
                match state {
                    Ok(state) if state.current == Some(ip) => Ok(()),
                    state => Err(format!("{} says {state:?}", member.ip())),
                }
            })
        });
    }

    /// Looks a user up on one director; he must get a backend.
    ///
    /// # Panics
    /// If he does not.
    pub fn lookup(&self, index: usize, user: &str, tag: &str) -> IpAddr {
        match self.member(index).authreply().lookup_in(user, tag) {
            Ok(Reply::Host(ip)) => ip,
            other => panic!("lookup of {user} on director {}: {other:?}", index + 1),
        }
    }

    /// Looks this many users up on one director and gives back who is where, in the order of the numbers.
    ///
    /// # Panics
    /// If one does not get a backend.
    pub fn lookup_many(&self, index: usize, users: &[String]) -> Vec<IpAddr> {
        let replies = self.member(index).authreply().lookup_all(users).expect("lookups");
        replies
            .into_iter()
            .zip(users)
            .map(|(reply, user)| match reply {
                Reply::Host(ip) => ip,
                other => panic!("lookup of {user} on director {}: {other:?}", index + 1),
            })
            .collect()
    }
}

/// The names `PREFIX0`, `PREFIX1`, ….
pub fn users(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}
