//! Room 11, the engine room: sockets, buffers, deadlines and the one event loop per CPU. It moves bytes
//! between the kernel and the machines of the rooms above and holds no protocol decision. The only room
//! that names monoio.

pub mod buffers;
pub mod connection;
pub mod deadline;
mod demand;
pub mod dial;
mod gauge;
pub mod listener;
mod log_line;
mod pace;
pub mod serve_http1;
mod slot;
mod steer;
pub mod stream;
pub mod sys;
mod upstream;
pub mod worker;
