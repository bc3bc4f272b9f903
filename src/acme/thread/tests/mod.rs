//! Faults and what must happen, with the fake authority and clocks that jump.

mod clocks;
mod crashes;
mod demand;
mod demand_changes;
mod failures;
mod issuance;
mod lives;
mod renewal;
mod storage;
