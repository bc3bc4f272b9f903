//! Text to value, one function per kind of option: durations, sizes, listening addresses, networks, workers.
//! Every refusal is a case of [`ValueError`], which says cause and remedy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::model::{Network, Workers};

/// Why a text is not the value that its option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// A number without its unit.
    NoUnit,
    /// A unit that does not exist.
    UnknownUnit,
    /// No number in front, a sign, a fraction, or a space.
    NoNumber,
    /// More than can be counted.
    TooLarge,
    /// A listening address without port.
    NoPort,
    /// A port that is not 0 to 65535.
    BadPort,
    /// A name where only an IP address can stand.
    NotAnIp,
    /// An IPv6 address without its brackets.
    NoBrackets,
    /// A prefix longer than the address.
    BadPrefix,
    /// A CPU list that is not like `0-3,8`.
    BadCpuList,
    /// A CPU named twice.
    CpuTwice,
}

impl ValueError {
    /// What is wrong with it, as the end of a sentence that starts with the text.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::NoUnit => "has no unit",
            Self::UnknownUnit => "has a unit that does not exist",
            Self::NoNumber => "does not start with a whole number",
            Self::TooLarge => "is too large to be counted",
            Self::NoPort => "has no port",
            Self::BadPort => "has a port that is not a number from 0 to 65535",
            Self::NotAnIp => "is not an IP address",
            Self::NoBrackets => "is an IPv6 address without brackets",
            Self::BadPrefix => "has a prefix length that does not fit its address",
            Self::BadCpuList => "is not a CPU list",
            Self::CpuTwice => "names a CPU twice",
        }
    }
}

/// `500ms`, `30s`, `2m`, `1h`: a whole number and one unit.
///
/// # Errors
/// [`ValueError::NoUnit`], [`ValueError::UnknownUnit`], [`ValueError::NoNumber`], [`ValueError::TooLarge`].
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let (number, unit) = quantity(text)?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "" => return Err(ValueError::NoUnit),
        _ => return Err(ValueError::UnknownUnit),
    };
    number.checked_mul(ms).map(Duration::from_millis).ok_or(ValueError::TooLarge)
}

/// `512B`, `64KiB`, `10MiB`, `1GiB` and the decimal `KB`, `MB`, `GB`: bytes.
///
/// # Errors
/// [`ValueError::NoUnit`], [`ValueError::UnknownUnit`], [`ValueError::NoNumber`], [`ValueError::TooLarge`].
pub fn size(text: &str) -> Result<u64, ValueError> {
    let (number, unit) = quantity(text)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "" => return Err(ValueError::NoUnit),
        _ => return Err(ValueError::UnknownUnit),
    };
    number.checked_mul(bytes).ok_or(ValueError::TooLarge)
}

/// The shortest text that [`duration`] reads as `value` (whole milliseconds).
#[must_use]
pub fn show_duration(value: Duration) -> String {
    let ms = value.as_millis();
    for (unit, factor) in [("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if ms > 0 && ms.is_multiple_of(factor) {
            return format!("{}{unit}", ms / factor);
        }
    }
    if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") }
}

/// The shortest text that [`size`] reads as `bytes`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

fn quantity(text: &str) -> Result<(u64, &str), ValueError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or(ValueError::NoNumber)?;
    if number.is_empty() {
        return Err(ValueError::NoNumber);
    }
    Ok((number.parse().map_err(|_| ValueError::TooLarge)?, unit))
}

/// `:443` and `443` (both families), `0.0.0.0:443`, `[::]:443`. Port 0 lets the kernel choose.
///
/// # Errors
/// [`ValueError::NoPort`], [`ValueError::BadPort`], [`ValueError::NotAnIp`], [`ValueError::NoBrackets`].
pub fn listener(text: &str) -> Result<Vec<SocketAddr>, ValueError> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(ValueError::NoBrackets);
    }
    if text.parse::<Ipv4Addr>().is_ok() || text.ends_with(']') {
        return Err(ValueError::NoPort);
    }
    let bare_port = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (host, port) =
        if bare_port { ("", text) } else { text.rsplit_once(':').ok_or(ValueError::NoPort)? };
    let port = port_number(port).ok_or(ValueError::BadPort)?;
    if host.is_empty() {
        return Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]);
    }
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip: IpAddr = match bracketed {
        Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| ValueError::NotAnIp)?.into(),
        None if host.parse::<Ipv6Addr>().is_ok() => return Err(ValueError::NoBrackets),
        None => host.parse::<Ipv4Addr>().map_err(|_| ValueError::NotAnIp)?.into(),
    };
    Ok(vec![(ip, port).into()])
}

/// A port in digits alone: the standard parser would take `+80` as well.
pub(super) fn port_number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// `10.0.0.0/8`, `fd00::/8`, or one address.
///
/// # Errors
/// [`ValueError::NotAnIp`], [`ValueError::BadPrefix`].
pub fn network(text: &str) -> Result<Network, ValueError> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| ValueError::NotAnIp)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(digits) => port_number(digits)
            .and_then(|p| u8::try_from(p).ok())
            .filter(|p| *p <= bits)
            .ok_or(ValueError::BadPrefix)?,
    };
    // An IPv4-mapped network counts as the IPv4 one, and its prefix with it.
    match (address, address.to_canonical()) {
        (IpAddr::V6(_), mapped @ IpAddr::V4(_)) => {
            let prefix = prefix.checked_sub(96).ok_or(ValueError::BadPrefix)?;
            Ok(Network { address: mapped, prefix })
        }
        _ => Ok(Network { address, prefix }),
    }
}

/// `auto`, or a CPU list as `taskset -c` takes it: `0-3,8`.
///
/// # Errors
/// [`ValueError::BadCpuList`], [`ValueError::CpuTwice`].
pub fn cpus(text: &str) -> Result<Workers, ValueError> {
    if text == "auto" {
        return Ok(Workers::Auto);
    }
    let mut cpus: Vec<usize> = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |digits| port_number(digits).map(usize::from).filter(|n| *n < CPUS);
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(ValueError::BadCpuList);
        };
        if first > last {
            return Err(ValueError::BadCpuList);
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(ValueError::CpuTwice);
            }
            cpus.push(cpu);
        }
    }
    Ok(Workers::Cpus(cpus))
}

/// CPUs that can be named, the size of the kernel's `cpu_set_t`; also the most workers.
pub(super) const CPUS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["500ms", "30s", "2m", "1h", "0s", "90s"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        assert_eq!(duration("30"), Err(ValueError::NoUnit));
        assert_eq!(duration("30 s"), Err(ValueError::UnknownUnit));
        assert_eq!(duration("1m30s"), Err(ValueError::UnknownUnit));
        assert_eq!(duration("-1s"), Err(ValueError::NoNumber));
        assert_eq!(duration(""), Err(ValueError::NoNumber));
        assert_eq!(duration("18446744073709551615h"), Err(ValueError::TooLarge));
        assert_eq!(duration("99999999999999999999s"), Err(ValueError::TooLarge));
    }

    #[test]
    fn sizes() {
        assert_eq!(size("10MiB"), Ok(10 << 20));
        assert_eq!(size("1GB"), Ok(1_000_000_000));
        for text in ["512B", "64KiB", "10MiB", "3GiB", "0B", "1000B"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
        assert_eq!(size("10"), Err(ValueError::NoUnit));
        assert_eq!(size("10mb"), Err(ValueError::UnknownUnit));
        assert_eq!(size("1.5MiB"), Err(ValueError::UnknownUnit));
        assert_eq!(size("18446744073709551615KiB"), Err(ValueError::TooLarge));
    }

    #[test]
    fn listeners() {
        let both = vec!["[::]:443".parse().unwrap(), "0.0.0.0:443".parse().unwrap()];
        assert_eq!(listener(":443"), Ok(both.clone()));
        assert_eq!(listener("443"), Ok(both));
        assert_eq!(listener("[::]:0"), Ok(vec!["[::]:0".parse().unwrap()]));
        assert_eq!(listener("127.0.0.1:8443"), Ok(vec!["127.0.0.1:8443".parse().unwrap()]));
        for (text, error) in [
            ("", ValueError::NoPort),
            (":", ValueError::BadPort),
            ("127.0.0.1", ValueError::NoPort),
            ("[::1]", ValueError::NoPort),
            ("::1", ValueError::NoBrackets),
            ("::1:x", ValueError::BadPort),
            ("fe80::1:70000", ValueError::BadPort),
            ("localhost:443", ValueError::NotAnIp),
            ("[127.0.0.1]:443", ValueError::NotAnIp),
            (":65536", ValueError::BadPort),
            (":+80", ValueError::BadPort),
        ] {
            assert_eq!(listener(text), Err(error), "{text}");
        }
    }

    #[test]
    fn networks() {
        assert_eq!(network("10.0.0.0/8"), Ok(Network { address: "10.0.0.0".parse().unwrap(), prefix: 8 }));
        assert_eq!(network("::1").map(|n| n.prefix), Ok(128));
        assert_eq!(
            network("::ffff:10.0.0.0/104"),
            Ok(Network { address: "10.0.0.0".parse().unwrap(), prefix: 8 })
        );
        assert_eq!(network("10.0.0.0/33"), Err(ValueError::BadPrefix));
        assert_eq!(network("10.0.0.0/"), Err(ValueError::BadPrefix));
        assert_eq!(network("::ffff:10.0.0.0/8"), Err(ValueError::BadPrefix));
        assert_eq!(network("internal"), Err(ValueError::NotAnIp));
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(cpus("auto"), Ok(Workers::Auto));
        assert_eq!(cpus("0-2,8"), Ok(Workers::Cpus(vec![0, 1, 2, 8])));
        for text in ["", "x", "0-", "3-1", "0,,1", "1024", "0 - 3"] {
            assert_eq!(cpus(text), Err(ValueError::BadCpuList), "{text}");
        }
        assert_eq!(cpus("0-3,2"), Err(ValueError::CpuTwice));
    }
}
