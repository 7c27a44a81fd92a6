//! Captures damaged in ways that can be repeated: cut short, and with bytes flipped.

/// Where a file is cut: in its header, in its first records, in the middle, and at its last byte.
pub(crate) fn cuts(length: usize) -> Vec<usize> {
    let mut cuts = vec![0, 3, 20, 24 + 9, length / 3, length / 2, length.saturating_sub(1)];
    cuts.retain(|cut| *cut < length);
    cuts.dedup();
    cuts
}

/// A copy with about one byte in `every` replaced. The first bytes, which tell the format, are kept in all variants but
/// the first, so that the damage reaches the packets.
pub(crate) fn flipped(bytes: &[u8], variant: u64, every: u64) -> Vec<u8> {
    let mut random = Random::new(variant);
    let kept = if variant == 0 { 0 } else { 4 };
    let flip = |(position, byte): (usize, &u8)| {
        let drawn = random.next();
        let hit = position >= kept && drawn.is_multiple_of(every);
        if hit { byte ^ (drawn >> 56) as u8 } else { *byte }
    };
    bytes.iter().enumerate().map(flip).collect()
}

/// SplitMix64: small, seeded, the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    /// Numbers that the seed alone determines.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// The next number.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_repeatable_and_real() {
        let bytes = vec![7; 10_000];
        let first = flipped(&bytes, 1, 100);
        assert_eq!(first, flipped(&bytes, 1, 100));
        assert_ne!(first, flipped(&bytes, 2, 100));
        let changed = first.iter().filter(|byte| **byte != 7).count();
        assert!((50..200).contains(&changed), "{changed} bytes changed");
        assert_eq!(first[..4], bytes[..4]);
    }
}
