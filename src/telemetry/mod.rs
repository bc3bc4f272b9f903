//! Room 9. What the proxy tells about itself: the names of its [`metrics`], the [`buckets`] of its durations,
//! their text for scrapers ([`exposition`]), and the [`access_log`] line of a request. Pure: values in, bytes out.

pub mod access_log;
pub mod buckets;
pub mod exposition;
pub mod metrics;
