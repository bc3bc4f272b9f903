//! Selection is a function: loads and luck in, a choice out. A policy owns no connection.

/// Power of two choices: of two endpoints picked by `luck`, the one with fewer requests in flight.
///
/// `loads` holds the requests in flight per endpoint; the endpoint `avoid` (one that has just failed)
/// is passed over while there is another. `None` only if `loads` is empty.
#[must_use]
pub fn power_of_two_choices(loads: &[u32], luck: u64, avoid: Option<usize>) -> Option<usize> {
    let candidates = match avoid {
        Some(index) if loads.len() > 1 && index < loads.len() => loads.len() - 1,
        _ => loads.len(),
    };
    if candidates == 0 {
        return None;
    }
    // The avoided index is cut out of the range by stepping over it.
    let place = |n: usize| match avoid {
        Some(index) if candidates < loads.len() && n >= index => n + 1,
        _ => n,
    };
    let first = place((luck as u32 as usize) % candidates);
    let second = place(((luck >> 32) as usize) % candidates);
    let load = |index: usize| loads.get(index).copied().unwrap_or(u32::MAX);
    Some(if load(second) < load(first) { second } else { first })
}

#[cfg(test)]
mod tests {
    use super::power_of_two_choices;

    #[test]
    fn the_less_loaded_of_two_wins() {
        assert_eq!(power_of_two_choices(&[], 1, None), None);
        assert_eq!(power_of_two_choices(&[7], u64::MAX, None), Some(0));
        assert_eq!(power_of_two_choices(&[9, 1], 1 << 32, None), Some(1));
        assert_eq!(power_of_two_choices(&[1, 9], 1, None), Some(0));
    }

    #[test]
    fn a_failed_endpoint_is_passed_over_while_there_is_another() {
        for luck in 0..64_u64 {
            let luck = luck.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            assert_ne!(power_of_two_choices(&[0, 5, 5], luck, Some(0)), Some(0));
            assert_ne!(power_of_two_choices(&[5, 5, 0], luck, Some(2)), Some(2));
        }
        assert_eq!(power_of_two_choices(&[3], 5, Some(0)), Some(0), "the only one is taken anyway");
    }
}
