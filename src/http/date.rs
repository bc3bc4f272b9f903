//! The `Date` field's format (RFC 9110 §5.6.7), made from a number of seconds that the caller has: this
//! room reads no clock.

/// Appends `unix_seconds` (since 1970, UTC, without leap seconds) as an IMF-fixdate, 29 bytes such as
/// `Sun, 06 Nov 1994 08:49:37 GMT`. Years after 9999, which the format cannot hold, are written as 9999's
/// last second.
pub fn write_imf_fixdate(unix_seconds: u64, out: &mut Vec<u8>) {
    let seconds = unix_seconds.min(LAST_SECOND_OF_9999);
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let of_day = seconds % 86_400;
    // 1 January 1970 was a Thursday.
    text(out, &DAYS, (days + 4) % 7);
    out.extend_from_slice(b", ");
    two_digits(out, day);
    out.push(b' ');
    text(out, &MONTHS, month - 1);
    out.push(b' ');
    two_digits(out, year / 100);
    two_digits(out, year % 100);
    out.push(b' ');
    two_digits(out, of_day / 3600);
    out.push(b':');
    two_digits(out, of_day / 60 % 60);
    out.push(b':');
    two_digits(out, of_day % 60);
    out.extend_from_slice(b" GMT");
}

/// The day of `unix_seconds` as `1994-11-06` (ISO 8601, UTC).
#[must_use]
pub fn iso_date(unix_seconds: u64) -> String {
    let (year, month, day) = civil(unix_seconds.min(LAST_SECOND_OF_9999) / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01, in the proleptic Gregorian
/// calendar. Years are counted from March, so that the leap day is the last one; 400 years repeat.
fn civil(days: u64) -> (u64, u64, u64) {
    // Day 0 becomes 0000-03-01.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn two_digits(out: &mut Vec<u8>, n: u64) {
    out.push(b'0' + (n / 10) as u8);
    out.push(b'0' + (n % 10) as u8);
}

fn text(out: &mut Vec<u8>, table: &[&str], index: u64) {
    out.extend_from_slice(table.get(index as usize).copied().unwrap_or_default().as_bytes());
}

const LAST_SECOND_OF_9999: u64 = 253_402_300_799;
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::{DAYS, MONTHS, write_imf_fixdate};

    fn date(unix_seconds: u64) -> String {
        let mut out = Vec::new();
        write_imf_fixdate(unix_seconds, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn days_are_written_as_iso_dates() {
        assert_eq!(super::iso_date(784_111_777), "1994-11-06");
        assert_eq!(super::iso_date(951_782_400), "2000-02-29");
        assert_eq!(super::iso_date(u64::MAX), "9999-12-31");
    }

    #[test]
    fn known_dates_rfc_9110_5_6_7() {
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(date(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 GMT");
        assert_eq!(date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
        assert_eq!(date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn every_day_until_2500_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 0, 1);
        for days in 0..193_600_u64 {
            let name = DAYS[(days as usize + 4) % 7];
            let month_name = MONTHS[month];
            assert_eq!(date(days * 86_400), format!("{name}, {day:02} {month_name} {year} 00:00:00 GMT"));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = [31, 28 + i32::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month];
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month == 12 {
                (month, year) = (0, year + 1);
            }
        }
    }
}
