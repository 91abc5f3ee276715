//! The keeper with the real programs: each test has a directory of its own and leaves nothing running, also
//! when it fails. Run as root, the server runs as an unprivileged user; the tests of ordinary users then
//! become one.

mod harness;
mod orphans;
mod recovery;
mod refusals;
mod sockets;
mod starting;
