//! Room 3. What the user wrote, with positions, and what it means.

pub mod model;
