//! Dates of authorities as seconds since 1970: the three forms of an HTTP-date (RFC 9110 §5.6.7) and
//! RFC 3339's, which renewal windows use. Readers are total: what is not a date is none.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// An HTTP-date. The day of the week is not looked at. Two-digit years are of this century.
pub(crate) fn http_date(text: &str) -> Option<u64> {
    if text.len() > 64 {
        return None;
    }
    let words: Vec<&str> = text.split([' ', '-']).filter(|word| !word.is_empty()).collect();
    let (day, month, year, time) = match *words.as_slice() {
        // Sun, 06 Nov 1994 08:49:37 GMT, and Sunday, 06-Nov-94 08:49:37 GMT.
        [_, day, month, year, time, "GMT"] => (day, month, year, time),
        // Sun Nov  6 08:49:37 1994.
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year = match year.len() {
        2 => 2000 + digits(year)?,
        4 => digits(year)?,
        _ => return None,
    };
    seconds(year, month, digits(day)?, clock(time)?)
}

/// `2025-01-02T04:00:00Z`, with a fraction (cut off) or an offset.
pub(crate) fn rfc3339(text: &str) -> Option<u64> {
    if text.len() > 64 || !text.is_ascii() {
        return None;
    }
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let (time, zone) = rest.split_at_checked(8)?;
    let zone = zone.strip_prefix('.').map_or(Some(zone), |fraction| {
        let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        (zone.len() < fraction.len()).then_some(zone)
    })?;
    let local = seconds(digits(year)?, digits(month)?, digits(day)?, clock(time)?)?;
    if zone.eq_ignore_ascii_case("z") {
        return Some(local);
    }
    let (sign, offset) = zone.split_at_checked(1)?;
    let (hours, minutes) = offset.split_once(':')?;
    let offset = two(hours, 23)? * 3600 + two(minutes, 59)? * 60;
    match sign {
        "+" => local.checked_sub(offset),
        "-" => local.checked_add(offset),
        _ => None,
    }
}

fn clock(text: &str) -> Option<u64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    // 60 is a leap second.
    let total = two(hours, 23)? * 3600 + two(minutes, 59)? * 60 + two(seconds, 60)?;
    parts.next().is_none().then_some(total)
}

fn two(text: &str, most: u64) -> Option<u64> {
    if text.len() != 2 {
        return None;
    }
    digits(text).filter(|value| *value <= most)
}

fn digits(text: &str) -> Option<u64> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Of a day in the Gregorian calendar and the seconds in it. Years are counted from March, so that the
/// leap day is the last one.
fn seconds(year: u64, month: u64, day: u64, of_day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let longest = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=longest).contains(&day) || year < 1970 {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + of_day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_in_three_forms() {
        let expected = Some(784_111_777);
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), expected);
        assert_eq!(http_date("Sun Nov  6 08:49:37 1994"), expected);
        assert_eq!(http_date("Sunday, 06-Nov-26 08:49:37 GMT"), Some(1_793_954_977));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for bad in ["", "120", "Sun, 31 Feb 2024 00:00:00 GMT", "Sun, 06 Nov 1994 08:49:37 CET", "x 1 2 3 4"]
        {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn it_reads_what_the_http_room_writes() {
        for seconds in (0..4_000_000_000_u64).step_by(12_345_677) {
            let mut text = Vec::new();
            crate::http::date::write_imf_fixdate(seconds, &mut text);
            assert_eq!(http_date(std::str::from_utf8(&text).unwrap()), Some(seconds));
        }
    }

    #[test]
    fn rfc3339_with_fractions_and_offsets() {
        let expected = Some(1_735_790_400);
        for text in [
            "2025-01-02T04:00:00Z",
            "2025-01-02T04:00:00.123456789Z",
            "2025-01-02T05:30:00+01:30",
            "2025-01-01t23:00:00-05:00",
        ] {
            assert_eq!(rfc3339(text), expected, "{text}");
        }
        for bad in [
            "",
            "2025-01-02",
            "2025-1-2T04:00:00Z",
            "2025-01-02T04:00:00",
            "2025-13-02T04:00:00Z",
            "2025-01-02T24:00:00Z",
            "2025-01-02T04:00:00.Z",
            "2025-01-02T04:00:00+1:00",
            "2025-01-02Té4:00:00Z",
        ] {
            assert_eq!(rfc3339(bad), None, "{bad}");
        }
    }
}
