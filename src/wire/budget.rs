//! Effort as a budget: what a peer can repeat is counted, and running out is an error with a name.

/// A number of times that something may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    left: u32,
}

impl Budget {
    /// A budget of `n`.
    #[must_use]
    pub const fn new(n: u32) -> Self {
        Self { left: n }
    }

    /// Takes `n`; `false` when that much is not left, and then it is exhausted for good.
    #[must_use]
    pub fn spend(&mut self, n: u32) -> bool {
        match self.left.checked_sub(n) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                self.left = 0;
                false
            }
        }
    }

    /// What is left.
    #[must_use]
    pub const fn left(self) -> u32 {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn a_budget_runs_out_and_stays_out() {
        let mut budget = Budget::new(3);
        assert!(budget.spend(2) && budget.left() == 1);
        assert!(!budget.spend(2) && budget.left() == 0);
        assert!(!budget.spend(1));
    }
}
