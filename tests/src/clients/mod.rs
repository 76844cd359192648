//! Small blocking clients for every door of a director, and for the mail servers behind it.
//!
//! They know as much of each protocol as the tests need. Each waits a minute at most for an answer, so nothing hangs.

pub mod admin;
pub mod authreply;
pub mod lines;
pub mod login;
pub mod mail;
pub mod notify;
pub mod ring;

pub use admin::{Admin, HostLine, MemberLine, UserLine};
pub use authreply::{AuthReply, Reply};
pub use lines::Lines;
pub use mail::{Imap, Lmtp, ManageSieve, Pop3, Submission};
pub use notify::Notify;
pub use ring::RingPeer;
