//! Configurations of Dovecot 2.4.

use std::net::{IpAddr, Ipv4Addr};

use crate::backend::{
    DOVEADM_PASSWORD, DOVEADM_PORT as BACKEND_DOVEADM, IMAP_PORT as BACKEND_IMAP, LMTP_PORT as BACKEND_LMTP,
    POP3_PORT as BACKEND_POP3, SIEVE_PORT as BACKEND_SIEVE, SUBMISSION_PORT as BACKEND_SUBMISSION,
};
use crate::director::{IMAP_PORT, LMTP_PORT, POP3_PORT};

/// What all have in common: they lie in a test's folder, which is at `/mnt` for them.
fn common(listen: &str, instance_name: &str) -> String {
    format!(
        r#"dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
listen = {listen}
base_dir = /mnt/run
state_dir = /mnt/state
log_path = /mnt/dovecot.log
log_timestamp = "%Y-%m-%d %H:%M:%S.%{{usecs}} "
instance_name = {instance_name}
protocols = imap pop3 lmtp
ssl = no
auth_allow_cleartext = yes
doveadm_password = {DOVEADM_PASSWORD}
service auth {{
  client_limit = 14000
}}
"#
    )
}

/// A service of login processes, which ask a director if there is one.
fn login(protocol: &str, port: u16, director: Option<&str>) -> String {
    let executable = director.map(|socket| format!("  executable = {protocol}-login {socket}\n")).unwrap_or_default();
    format!(
        r"service {protocol}-login {{
{executable}  restart_request_count = unlimited
  process_min_avail = 1
  client_limit = 5000
  inet_listener {protocol} {{
    port = {port}
  }}
  inet_listener {protocol}s {{
    port = 0
  }}
}}
"
    )
}

/// A proxy beside one of our directors: everybody gets in, and his sessions have the field `user_team`,
/// which is what is behind the `@` of his name.
pub fn proxy(ip: Ipv4Addr, instance_name: &str, settings: &str) -> String {
    let socket = Some("ext/director");
    let mut text = common(&ip.to_string(), instance_name);
    text += &login("imap", IMAP_PORT, socket);
    text += &login("pop3", POP3_PORT, socket);
    text += &format!(
        r"service lmtp {{
  inet_listener lmtp {{
    port = {LMTP_PORT}
  }}
}}
service anvil {{
  unix_listener anvil {{
    mode = 0600
    user = dovecot
  }}
}}
lmtp_proxy = yes
doveadm_port = {BACKEND_DOVEADM}
protocol lmtp {{
  auth_socket_path = director-userdb
}}
protocol doveadm {{
  auth_socket_path = director-userdb
}}
userdb static {{
  fields {{
    uid = dovecot
    gid = dovecot
    home = /nonexistent
  }}
}}
{settings}
"
    );
    text + &passdb("everybody", "", &["user_team = %{user | domain}"])
}

/// A passdb block that proxies users whose names match a pattern (all, if it is empty), with more fields.
pub fn passdb(name: &str, pattern: &str, fields: &[&str]) -> String {
    let filter = if pattern.is_empty() { String::new() } else { format!("  passdb_username_filter = {pattern}\n") };
    let more: String = fields.iter().map(|field| format!("    {field}\n")).collect();
    let mut text = format!(
        "passdb {name} {{\n  driver = static\n{filter}  fields {{\n    proxy = yes\n    nopassword = yes\n    \
         port = {BACKEND_IMAP}\n{more}  }}\n}}\n"
    );
    // Backends of tests listen elsewhere than they would.
    for (protocol, port) in [
        ("pop3", BACKEND_POP3),
        ("lmtp", BACKEND_LMTP),
        ("submission", BACKEND_SUBMISSION),
        ("sieve", BACKEND_SIEVE),
        ("doveadm", BACKEND_DOVEADM),
    ] {
        text += &format!(
            "protocol {protocol} {{\n  passdb {name} {{\n    fields {{\n      port = {port}\n    }}\n  }}\n}}\n"
        );
    }
    text
}

/// Backends on these addresses, which keep their mail in `mail`, each address in a folder of its own below the user's.
pub fn backends(addresses: &[IpAddr]) -> String {
    let listen = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut text = common(&listen, "backend24");
    text += &login("imap", BACKEND_IMAP, None);
    text += &login("pop3", BACKEND_POP3, None);
    text += &format!(
        r"imap_logout_format = in=%{{input}} out=%{{output}} session=<%{{session}}>
mail_driver = maildir
mail_home = /mnt/mail/%{{user}}
mail_path = /mnt/mail/%{{user}}/%{{local_ip}}
first_valid_uid = 1
mail_max_userip_connections = 0
service imap {{
  process_limit = 2000
}}
service pop3 {{
  process_limit = 2000
}}
service lmtp {{
  inet_listener lmtp {{
    port = {BACKEND_LMTP}
  }}
}}
service doveadm {{
  inet_listener doveadm {{
    port = {BACKEND_DOVEADM}
  }}
}}
passdb static {{
  fields {{
    nopassword = yes
  }}
}}
userdb static {{
  fields {{
    uid = dovecot
    gid = dovecot
  }}
}}
"
    );
    text
}
