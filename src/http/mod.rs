//! Room 2. Words that every HTTP version shares (RFC 9110): method, status, field, authority, target,
//! date, and the head as spans. Pure.

pub mod authority;
pub mod date;
pub mod field;
pub mod head;
pub mod method;
pub mod status;
pub mod target;
