//! Why a user may be on two backends.

/// A cause; which each of them excuses, and for how long, is told in the [module's documentation](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The network kept the directors apart.
    Partition,
    /// A director's process stood still.
    Pause,
    /// A director died, with what only it knew and with its ear for who is still here.
    Death,
    /// An operator had the directors forget the users of a backend.
    Operator,
    /// The kick that would have ended the other session failed, or has not come to it yet.
    Kick,
    /// A move was given up.
    GivenUp,
    /// What the others ought to know was still on its way to them.
    OnItsWay,
    /// The two were found in conflict, and it is being resolved.
    Conflict,
    /// Clocks differ by more than the protocol allows for.
    Clocks,
    /// A member speaks an older version, which knows less of users.
    Minor,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Partition,
        Self::Pause,
        Self::Death,
        Self::Operator,
        Self::Kick,
        Self::GivenUp,
        Self::OnItsWay,
        Self::Conflict,
        Self::Clocks,
        Self::Minor,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Partition => "network parted",
            Self::Pause => "stood still",
            Self::Death => "director died",
            Self::Operator => "operator forgot users",
            Self::Kick => "kick failed or late",
            Self::GivenUp => "move given up",
            Self::OnItsWay => "news on its way",
            Self::Conflict => "being resolved",
            Self::Clocks => "clocks",
            Self::Minor => "older member",
        }
    }
}
