//! What a dovecot.conf of 2.3 says about the Dovecot around its director: all that must be told to Dovecot 2.4 as well.

/// Whoever asks a director, as far as the file names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// `executable` of services: the service's name, and the command. The last one counts.
    executables: Vec<(String, String)>,
    /// `auth_socket_path`: the protocol's name, empty outside of all sections; and the path.
    auth_sockets: Vec<(String, String)>,
    /// Some settings outside of all sections.
    top: Vec<(String, String)>,
}

/// Settings outside of all sections that matter here.
const TOP: &[&str] = &["lmtp_proxy", "doveadm_port", "doveadm_proxy_port", "protocols"];

impl Surroundings {
    /// Whether a setting is worth a [`Surroundings::note`]: outside of all sections, or in one of a kind.
    pub(super) fn wants(section: Option<&[u8]>, key: &[u8]) -> bool {
        match section {
            None => key == b"auth_socket_path" || TOP.iter().any(|top| top.as_bytes() == key),
            Some(b"service") => key == b"executable",
            Some(b"protocol") => key == b"auth_socket_path",
            Some(_) => false,
        }
    }

    /// Takes a setting of the section of a name, which is empty outside of all sections.
    pub(super) fn note(&mut self, name: &[u8], key: &[u8], value: &[u8]) {
        // What is not text is nothing that we could write about.
        let [Ok(name), Ok(key), Ok(value)] = [name, key, value].map(std::str::from_utf8) else { return };
        let (list, name) = match key {
            "executable" => (&mut self.executables, name),
            "auth_socket_path" => (&mut self.auth_sockets, name),
            _ => (&mut self.top, key),
        };
        match list.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => list.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Whether the file says nothing about a Dovecot: it is a director's own.
    pub(super) fn is_empty(&self) -> bool {
        self.executables.is_empty() && self.auth_sockets.is_empty() && self.top.is_empty()
    }

    /// The services with a program of their own choice, in the order of the file.
    pub(super) fn executables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.executables.iter().map(|(service, command)| (service.as_str(), command.as_str()))
    }

    /// Where a protocol asks for users.
    pub(super) fn auth_socket(&self, protocol: &str) -> Option<&str> {
        let of = |name: &str| self.auth_sockets.iter().find(|(known, _)| known == name).map(|(_, path)| path.as_str());
        of(protocol).or_else(|| of(""))
    }

    /// A setting outside of all sections.
    pub(super) fn top(&self, key: &str) -> Option<&str> {
        self.top.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}
