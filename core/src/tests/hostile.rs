//! Whatever comes in on whatever socket: no panic, a bounded backlog, and the others are served as before.

use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::*;

/// What a hostile client of one role says, in pieces: pure noise, or good lines with damage.
#[derive(Clone, Debug)]
struct Talk {
    role: usize,
    pieces: Vec<Vec<u8>>,
}

const ROLES: [Role; 6] = [Role::Ring, Role::Login, Role::Userdb, Role::AuthReply, Role::Admin, Role::Notify];

const GOOD: &str = "VERSION\tdirector\t1\t9\nME\t127.0.1.3\t9090\t1795309353\nDIRECTOR\t127.0.1.4\t9090\n\
    HOST-HAND-START\t1\nHOST\t127.0.2.9\t100\tx\tD5\tname\nHOST-HAND-END\t1\nU\t77\t127.0.2.1\t1795309353\tw\n\
    OPTIONS\tconsistent-hashing\nDONE\nUSER\t1480892766\t127.0.2.3\t1795309353\n\
    USER-WEAK\t127.0.1.3\t9090\t1\t77\t127.0.2.1\nHOST\t127.0.1.3\t9090\t2\t127.0.2.1\t3\t\tD99\t\n\
    HOST-REMOVE\t127.0.1.3\t9090\t3\t127.0.2.2\nHOST-FLUSH\t127.0.1.3\t9090\t4\t127.0.2.3\n\
    USER-MOVE\t127.0.1.3\t9090\t5\t77\t127.0.2.3\nUSER-KILLED\t77\nUSER-KILLED-EVERYWHERE\t127.0.1.3\t9090\t6\t77\n\
    USER-KICK\t127.0.1.3\t9090\t7\tjane\nDIRECTOR-REMOVE\t127.0.1.4\t9090\nSYNC\t127.0.1.3\t9090\t1\t9\t99\t1\n\
    SYNC\t127.0.1.3\t9090\t1\t9\t99\t1\nPING\t1\t2\nPONG\t1\t2\nCONNECT\t127.0.1.3\t9090\nQUIT\twhy\n\
    VERSION\tdirector-doveadm\t1\t0\nHOST-LIST\nUSER-LIST\nDIRECTOR-LIST\nHOST-SET\t127.0.2.8@y\t5\n\
    HOST-DOWN\t127.0.2.1\nHOST-UP\t127.0.2.1\nDIRECTOR-ADD\t127.0.1.9\t1\nDIRECTOR-REMOVE\t127.0.1.9\t1\n\
    VERSION\tdirector-authreply-client\t1\t0\nOK\t1\tuser=jane\tproxy\nOK\t2\tuser=x\tproxy\tdirector_tag=z\n\
    jane\nUSER-LOOKUP\tjane\nUSER-MOVE\tjane\t127.0.2.1\nHOST-FLUSH\n";

impl Arbitrary for Talk {
    fn arbitrary(g: &mut Gen) -> Self {
        let good: Vec<&str> = GOOD.split_inclusive('\n').collect();
        let mut pieces = Vec::new();
        let start = usize::arbitrary(g) % good.len();
        for n in 0..usize::arbitrary(g) % 40 {
            let mut piece = match u8::arbitrary(g) % 8 {
                0 => Vec::<u8>::arbitrary(g),
                1 => good[usize::arbitrary(g) % good.len()].as_bytes().to_vec(),
                _ => good[(start + n) % good.len()].as_bytes().to_vec(),
            };
            if u8::arbitrary(g) % 8 == 0 && !piece.is_empty() {
                let at = usize::arbitrary(g) % piece.len();
                piece[at] = u8::arbitrary(g);
            }
            if u8::arbitrary(g) % 16 == 0 {
                piece.truncate(usize::arbitrary(g) % (piece.len() + 1));
            }
            pieces.push(piece);
        }
        // A hostile ring peer gets nowhere without these two.
        if bool::arbitrary(g) {
            pieces.splice(0..0, good[..2].iter().map(|line| line.as_bytes().to_vec()));
        }
        Self { role: usize::arbitrary(g) % ROLES.len(), pieces }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let role = self.role;
        Box::new(self.pieces.shrink().map(move |pieces| Self { role, pieces }))
    }
}

fn survives(talks: Vec<Talk>) -> bool {
    let mut net = Net::synced(2);
    net.lookup(1, "joe@example.com");
    for talk in talks {
        let role = ROLES[talk.role];
        let peer = (role == Role::Ring).then(|| "127.0.1.2:5".parse().unwrap());
        let director = net.nodes.get_mut(&1).unwrap();
        let connection = director.accept(role, peer, net.now);
        net.run();
        for piece in &talk.pieces {
            net.handle(1, Event::Received { connection, bytes: piece });
            net.run();
        }
        net.pass(Duration::from_millis(700));
        net.handle(1, Event::Closed { connection, error: None });
        net.run();
    }
    net.pass(secs(90));
    // The administrator's socket works, and the two directors find each other again.
    net.wait_synced(1);
    net.wait_synced(2);
    true
}

#[test]
fn no_input_on_any_socket_panics_or_keeps_the_ring_apart() {
    QuickCheck::new().tests(150).quickcheck(survives as fn(Vec<Talk>) -> bool);
}
