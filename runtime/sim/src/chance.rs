//! Chance from a seed: equal seeds give equal histories, on every machine. Everything random in a simulation
//! is drawn from one of these, or from one that was split off it.

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, good enough to choose faults by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Chance(seed)
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait, reason = "it never ends, and nobody maps or filters it")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// From 0 to `limit - 1`; 0 when `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        // Multiply-shift: the bias is below 2^-32 for any limit that a test has.
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// As [`Chance::below`], for places in memory.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// `true` once in `times`, on average.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// `true` so often in a million.
    pub fn per_million(&mut self, often: u32) -> bool {
        self.below(1_000_000) < u64::from(often)
    }

    /// One of them.
    ///
    /// # Panics
    /// There are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// An independent source whose draws don't change this one's from here on.
    pub fn split(&mut self) -> Chance {
        Chance(self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence() {
        let mut chance = Chance::new(0);
        // The reference implementation's first outputs for seed 0.
        assert_eq!(chance.next(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(chance.next(), 0x6e78_9e6a_a1b9_65f4);
        let draws: Vec<u64> = (0..1_000).map(|_| chance.below(7)).collect();
        assert!((0..7).all(|number| draws.iter().filter(|draw| **draw == number).count() > 90));
        assert_eq!(chance.below(0), 0);
        assert_ne!(chance.split(), chance);
    }
}
