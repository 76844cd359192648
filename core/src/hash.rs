//! The hashes that everything rests on (settings and hashes, "Hashes").
//!
//! Every member of a ring must get the same numbers here, or it would send users elsewhere than its neighbours do. So
//! the tests compare with numbers that came out of Dovecot 2.3.19.1.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use md5::{Digest, Md5};
use memchr::memchr;

use crate::wire::Text;

/// A parsed director_username_hash template, such as `%Lu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsernameHash {
    template: Box<str>,
    pieces: Box<[Piece]>,
}

impl Default for UsernameHash {
    /// `%Lu`: the whole name in lower case.
    fn default() -> Self {
        Self { template: "%Lu".into(), pieces: Box::new([Piece::Variable(Variable::User, Case::Lower)]) }
    }
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Variable(Variable, Case),
}

/// The part of a name that a variable stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    /// All of it.
    User,
    /// What is before the first `@`; all of it if there is none.
    Local,
    /// What is after the first `@`; nothing if there is none.
    Domain,
}

impl Variable {
    fn of(self, username: &[u8]) -> &[u8] {
        if self == Self::User {
            return username;
        }
        match (self, memchr(b'@', username)) {
            (Self::Domain, Some(at)) => &username[at + 1..],
            (Self::Domain, None) => &[],
            (_, Some(at)) => &username[..at],
            (_, None) => username,
        }
    }
}

/// What the modifiers make of it. Only the last one counts: each undoes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Keep,
    Lower,
    Upper,
}

/// What is wrong with a director_username_hash template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(pub String);

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for TemplateError {}

impl UsernameHash {
    /// Reads a template: `%u`, `%n`, `%d`, with modifiers `L`, `U` (ASCII letters only); long forms `%{user}` (the
    /// whole name), `%{username}` (as `%n`), `%{domain}`, with the modifiers before the brace; `%%`; other text as it
    /// is. As in Dovecot, a `%` (with or without modifiers) that ends the template stands for nothing.
    ///
    /// # Errors
    /// [`TemplateError`] for a variable or modifier that does not exist. Dovecot knows more of both (lengths, `M`,
    /// `H`, `%{hostname}` …); to refuse them is safe, to give another hash than the rest of the ring would not be.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut chars = template.chars();
        while let Some(char) = chars.next() {
            if char != '%' {
                text.push(char);
                continue;
            }
            let mut case = Case::Keep;
            let variable = loop {
                match chars.next() {
                    Some('L') => case = Case::Lower,
                    Some('U') => case = Case::Upper,
                    Some('%') => {
                        text.push('%');
                        break None;
                    }
                    Some('u') => break Some(Variable::User),
                    Some('n') => break Some(Variable::Local),
                    Some('d') => break Some(Variable::Domain),
                    Some('{') => {
                        let Some((name, rest)) = chars.as_str().split_once('}') else {
                            return Err(TemplateError("%{ without }".into()));
                        };
                        chars = rest.chars();
                        break Some(match name {
                            "user" => Variable::User,
                            "username" => Variable::Local,
                            "domain" => Variable::Domain,
                            _ => return Err(TemplateError(format!("unknown variable %{{{name}}}"))),
                        });
                    }
                    Some(other) => return Err(TemplateError(format!("unknown variable or modifier %{other}"))),
                    None => break None,
                }
            };
            if let Some(variable) = variable {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text).into()));
                }
                pieces.push(Piece::Variable(variable, case));
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
        Ok(Self { template: template.into(), pieces: pieces.into() })
    }

    /// The hash of a name: never 0.
    pub fn hash(&self, username: &[u8]) -> u32 {
        let mut md5 = Md5::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => md5.update(text.as_bytes()),
                Piece::Variable(variable, case) => {
                    update_in_case(&mut md5, variable.of(username), *case);
                }
            }
        }
        first_four_bytes(md5).max(1)
    }

    /// The template as it was written.
    pub fn template(&self) -> &str {
        &self.template
    }
}

/// Feeds `bytes` in another case, through a buffer on the stack so that a lookup does not allocate.
fn update_in_case(md5: &mut Md5, bytes: &[u8], case: Case) {
    let convert: fn(&mut [u8]) = match case {
        Case::Keep => return md5.update(bytes),
        Case::Lower => <[u8]>::make_ascii_lowercase,
        Case::Upper => <[u8]>::make_ascii_uppercase,
    };
    let mut buffer = [0; 64];
    for chunk in bytes.chunks(buffer.len()) {
        let copy = &mut buffer[..chunk.len()];
        copy.copy_from_slice(chunk);
        convert(copy);
        md5.update(copy);
    }
}

fn first_four_bytes(md5: Md5) -> u32 {
    let digest = md5.finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// The point of a backend's `n`th vhost in the circle of consistent hashing: MD5 of `<ip>-<n>`, first four bytes.
pub fn vhost_point(ip: IpAddr, n: u32) -> u32 {
    let mut number = Text::default();
    number.push(b'-');
    number.push_number(n.into());
    let mut md5 = Md5::new();
    match ip {
        IpAddr::V4(ip) => {
            let mut address = Text::default();
            address.push_ipv4(ip);
            md5.update(address.bytes());
        }
        IpAddr::V6(_) => md5.update(IpText(ip).to_string().as_bytes()),
    }
    md5.update(number.bytes());
    first_four_bytes(md5)
}

/// Prints an address as `inet_ntop` does, and so as it must stand on the wire and in vhost points.
///
/// The standard library prints the same, but for the addresses `::/96` whose last 32 bits are above 65,535:
/// `::1.2.3.4` here, `::102:304` there.
///
/// ```
/// use director_core::hash::IpText;
/// assert_eq!(IpText("::1.2.3.4".parse().unwrap()).to_string(), "::1.2.3.4");
/// assert_eq!(IpText("2001:DB8::1".parse().unwrap()).to_string(), "2001:db8::1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpText(pub IpAddr);

impl fmt::Display for IpText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(ip) if ip.to_bits() >> 32 == 0 && ip.to_bits() > 0xffff => {
                let [.., a, b, c, d] = ip.octets();
                write!(formatter, "::{a}.{b}.{c}.{d}")
            }
            ip => ip.fmt(formatter),
        }
    }
}

/// The running CRC of SYNC's hosts-hash: feed it the hosts in order of IP.
#[derive(Clone, Debug, Default)]
pub struct HostsHash {
    crc: crc32fast::Hasher,
}

impl HostsHash {
    /// Adds a host.
    pub fn add(&mut self, ip: IpAddr, vhosts: u32, down: bool, tag: &[u8]) {
        self.crc.update(&(vhosts ^ u32::from(down)).to_le_bytes());
        match ip {
            IpAddr::V4(ip) => self.crc.update(&ip.octets()),
            IpAddr::V6(ip) => self.crc.update(&pjw_hash(ip).to_le_bytes()),
        }
        self.crc.update(tag);
    }

    /// The hash: never 0.
    pub fn finish(self) -> u32 {
        self.crc.finalize().max(1)
    }
}

/// The PJW (ELF) hash of an address's 16 bytes.
fn pjw_hash(ip: Ipv6Addr) -> u32 {
    ip.octets().into_iter().fold(0, |hash: u32, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(byte));
        let high = hash & 0xf000_0000;
        hash ^ (high >> 24) ^ high
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(template: &str, name: &str) -> u32 {
        UsernameHash::parse(template).unwrap().hash(name.as_bytes())
    }

    /// The lines of a file of vectors, each split at its TABs.
    fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
    }

    #[test]
    fn names_hash_as_in_dovecot() {
        let mut count = 0;
        for fields in lines(include_str!("testdata/users.tsv")) {
            assert_eq!(hash("%Lu", fields[0]).to_string(), fields[1], "{}", fields[0]);
            count += 1;
        }
        assert_eq!(count, 29);
    }

    /// What `doveadm director map -u` of 2.3.19.1 printed under these settings.
    #[test]
    fn templates_expand_as_in_dovecot() {
        let name = "Jane.Doe@Example.COM@x";
        for (template, expected) in [
            ("%u", 2207036218),
            ("%Lu", 3305013022),
            ("%Uu", 3291153036),
            ("%n", 905261195),
            ("%Ln", 105236777),
            ("%Un", 3021611850),
            ("%d", 2204571396),
            ("%Ld", 3123407142),
            ("%Ud", 1960624648),
            ("%LUu", 3291153036),
            ("%ULu", 3305013022),
            ("%LLu", 3305013022),
            ("%{user}", 2207036218),
            ("%{username}", 905261195),
            ("%{domain}", 2204571396),
            ("%L{user}", 3305013022),
            ("%U{username}", 3021611850),
            ("%%", 198113732),
            ("%L%", 198113732),
            ("%%%u", 1618416555),
            ("x%ux", 1627443222),
            ("%u@%d", 2553541084),
            ("%", 3558706393),
            ("%L", 3558706393),
            ("a%", 214005177),
            ("lit", 4012439657),
            ("", 3558706393),
        ] {
            assert_eq!(hash(template, name), expected, "{template}");
        }
        for fields in lines(include_str!("testdata/templates.tsv")) {
            assert_eq!(hash(fields[0], fields[1]).to_string(), fields[2], "{} of {}", fields[0], fields[1]);
        }
        assert_eq!(UsernameHash::parse("%Lu").unwrap().template(), "%Lu");
    }

    #[test]
    fn variables_and_modifiers_that_we_do_not_have_are_refused() {
        for template in
            ["%x", "%{nope}", "%{user", "%{L:user}", "%{user:lower}", "%M u", "%Mu", "%3u", "%é", "%{}", "%l"]
        {
            assert!(UsernameHash::parse(template).is_err(), "{template}");
        }
        assert_eq!(UsernameHash::parse("%{nope}").unwrap_err().to_string(), "unknown variable %{nope}");
    }

    #[test]
    fn names_longer_than_the_buffer_change_case_too() {
        for len in 0..300 {
            let name: String = ('A'..='Z').cycle().take(len).collect();
            assert_eq!(hash("%Lu", &name), hash("%u", &name.to_lowercase()), "{len}");
        }
    }

    #[test]
    fn addresses_print_as_by_inet_ntop() {
        let mut count = 0;
        for fields in lines(include_str!("testdata/inet-ntop.tsv")) {
            let ip: IpAddr = fields[0].parse().unwrap();
            assert_eq!(IpText(ip).to_string(), fields[1]);
            assert_eq!(fields[1].parse(), Ok(ip));
            count += 1;
        }
        assert!(count > 50);
    }

    #[test]
    fn vhost_points_are_md5_of_address_and_number() {
        let md5 = |text: &str| first_four_bytes(Md5::new_with_prefix(text));
        assert_eq!(vhost_point("10.0.0.1".parse().unwrap(), 0), md5("10.0.0.1-0"));
        assert_eq!(vhost_point("2001:db8::1".parse().unwrap(), 4_294_967_295), md5("2001:db8::1-4294967295"));
        assert_eq!(vhost_point("::1.2.3.4".parse().unwrap(), 99), md5("::1.2.3.4-99"));
    }

    #[test]
    fn hosts_hash_is_as_in_dovecot() {
        let mut count = 0;
        for fields in lines(include_str!("testdata/hosts-hash.tsv")) {
            let mut hash = HostsHash::default();
            for host in fields[1].split(' ') {
                let [ip, vhosts, tag, updown] = host.split('|').collect::<Vec<_>>()[..] else { panic!("{host}") };
                hash.add(ip.parse().unwrap(), vhosts.parse().unwrap(), updown == "D", tag.as_bytes());
            }
            assert_eq!(hash.finish().to_string(), fields[0]);
            count += 1;
        }
        assert_eq!(count, 8);
        assert_eq!(HostsHash::default().finish(), 1, "0 would mean: not known");
    }
}
