use dns_update::DnsUpdater;
fn main() { let _ = std::mem::size_of::<DnsUpdater>(); }
