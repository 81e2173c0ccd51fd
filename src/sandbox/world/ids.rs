//! Ids that look random but are the same for the same seed.

/// A counter with a mixing function.
#[derive(Clone)]
pub(super) struct Ids {
    seed: u64,
    count: u64,
}

impl Ids {
    pub(super) fn new(seed: u64) -> Ids {
        Ids { seed, count: 0 }
    }

    fn next_random(&mut self) -> u64 {
        // The SplitMix64 finalizer makes consecutive counts unrelated.
        self.count += 1;
        let mut word = self.seed.wrapping_add(self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Returns a Databricks id. Above 2^53, so clients that use floating point get it wrong.
    pub(super) fn next_id(&mut self) -> i64 {
        let bits = (self.next_random() & 0x007f_ffff_ffff_ffff) | (1 << 55);
        i64::try_from(bits).unwrap_or(i64::MAX)
    }

    /// Returns forty hexadecimal digits, like a git commit.
    pub(super) fn next_commit_sha(&mut self) -> String {
        let text = format!("{:016x}{:016x}{:016x}", self.next_random(), self.next_random(), self.next_random());
        text[..40].to_owned()
    }
}
