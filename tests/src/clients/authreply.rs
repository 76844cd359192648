//! The authreply protocol: the cleanest way to look users up.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::lines::Lines;

/// A connection on which users are looked up.
#[derive(Debug)]
pub struct AuthReply {
    lines: Lines,
    next_id: u32,
}

/// How a lookup came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The user's backend.
    Host(IpAddr),
    /// A temporary failure.
    Failed,
    /// Anything else, as it came.
    Other(String),
}

impl AuthReply {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let mut lines = Lines::unix(path)?;
        lines.send("VERSION\tdirector-authreply-client\t1\t0")?;
        let greeting = lines.expect()?;
        assert_eq!(greeting, "VERSION\tdirector-authreply-server\t1\t0");
        Ok(Self { lines, next_id: 1 })
    }

    /// The connection itself.
    pub fn lines(&mut self) -> &mut Lines {
        &mut self.lines
    }

    /// Looks a user up in the pool of this tag.
    ///
    /// # Errors
    /// The system's.
    pub fn lookup_in(&mut self, user: &str, tag: &str) -> io::Result<Reply> {
        let id = self.next_id;
        self.next_id += 1;
        let tag = if tag.is_empty() { String::new() } else { format!("\tdirector_tag={tag}") };
        self.lines.send(&format!("OK\t{id}\tuser={user}\tproxy{tag}"))?;
        Ok(understand(&self.lines.expect()?).1)
    }

    /// Looks a user up in the untagged pool.
    ///
    /// # Errors
    /// The system's.
    pub fn lookup(&mut self, user: &str) -> io::Result<Reply> {
        self.lookup_in(user, "")
    }

    /// Looks many users up as fast as they are answered; the replies are in the order of the users.
    ///
    /// # Errors
    /// The system's.
    pub fn lookup_all(&mut self, users: &[String]) -> io::Result<Vec<Reply>> {
        let mut writer = self.lines.try_clone()?;
        std::thread::scope(|scope| {
            let sent = scope.spawn(move || -> io::Result<()> {
                for (chunk, names) in users.chunks(500).enumerate() {
                    let requests: String = names
                        .iter()
                        .enumerate()
                        .map(|(place, user)| format!("OK\t{}\tuser={user}\tproxy\n", chunk * 500 + place + 1))
                        .collect();
                    writer.send_bytes(requests.as_bytes())?;
                }
                Ok(())
            });
            let mut replies = vec![Reply::Failed; users.len()];
            for _ in users {
                let (id, reply) = understand(&self.lines.expect()?);
                replies[id - 1] = reply;
            }
            sent.join().expect("writer")?;
            Ok(replies)
        })
    }
}

fn understand(line: &str) -> (usize, Reply) {
    let mut fields = line.split('\t');
    let word = fields.next().unwrap_or_default();
    let id = fields.next().and_then(|id| id.parse().ok()).unwrap_or_default();
    let host = fields.clone().find_map(|field| field.strip_prefix("host=")).and_then(|ip| ip.parse().ok());
    let reply = match (word, host) {
        ("OK", Some(ip)) => Reply::Host(ip),
        ("FAIL", _) if fields.any(|field| field == "code=temp_fail") => Reply::Failed,
        _ => Reply::Other(line.into()),
    };
    (id, reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_understood() {
        let ip = "10.1.2.3".parse().unwrap();
        assert_eq!(understand("OK\t7\tuser=jane\tproxy\tproxy_refresh=30\thost=10.1.2.3"), (7, Reply::Host(ip)));
        assert_eq!(understand("FAIL\t3\tcode=temp_fail"), (3, Reply::Failed));
        let other = "OK\t1\tuser=jane";
        assert_eq!(understand(other), (1, Reply::Other(other.into())));
    }
}
