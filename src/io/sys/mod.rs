//! System calls and runtime handles wrapped safe. The only folder of this room that may use `unsafe`.

#![allow(unsafe_code)] // Each block states the contract that it keeps.

mod clock;
mod file;
mod inotify;
mod peer;
mod priority;
mod probe;
mod process;
mod socket;

pub use clock::since_boot;
pub use file::{is_local, try_lock, try_lock_shared};
pub use inotify::{Event, Inotify, Watch};
pub use peer::peer_user;
pub use priority::{be_idle, be_nice};
pub use probe::{RingFlags, clock_is_disciplined, ring_flags};
pub use process::{
    forbid_core_dumps, forbid_huge_pages, kill_group, raise_descriptor_limit, release_free_memory, user_id,
};
pub use socket::{Socket, prefer_incoming_cpu};
