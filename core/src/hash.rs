//! The hashes that everything rests on (settings and hashes, "Hashes").

use std::net::IpAddr;

/// A parsed director_username_hash template, such as `%Lu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsernameHash {/* H3 */}

/// What is wrong with a director_username_hash template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(pub String);

impl std::fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for TemplateError {}

impl UsernameHash {
    /// Reads a template: `%u`, `%n`, `%d`, with modifiers `L`, `U`; long forms `%{user}`, `%{username}`, `%{domain}`;
    /// `%%`; other text as it is.
    ///
    /// # Errors
    /// [`TemplateError`] for a variable or modifier that does not exist.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let _ = template;
        unimplemented!()
    }

    /// The hash of a name: never 0.
    pub fn hash(&self, username: &[u8]) -> u32 {
        let _ = username;
        unimplemented!()
    }

    /// The template as it was written.
    pub fn template(&self) -> &str {
        unimplemented!()
    }
}

/// The point of a backend's `n`th vhost in the circle of consistent hashing: MD5 of `<ip>-<n>`, first four bytes.
pub fn vhost_point(ip: IpAddr, n: u32) -> u32 {
    let _ = (ip, n);
    unimplemented!()
}

/// The running CRC of SYNC's hosts-hash: feed it the hosts in order of IP.
#[derive(Clone, Debug, Default)]
pub struct HostsHash {/* H3 */}

impl HostsHash {
    /// Adds a host.
    pub fn add(&mut self, ip: IpAddr, vhosts: u32, down: bool, tag: &[u8]) {
        let _ = (ip, vhosts, down, tag);
        unimplemented!()
    }

    /// The hash: never 0.
    pub fn finish(self) -> u32 {
        unimplemented!()
    }
}
