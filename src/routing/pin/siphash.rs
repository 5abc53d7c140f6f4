//! SipHash-2-4 with 128 bits of output (Aumasson & Bernstein 2012): a keyed hash made for short inputs that others
//! choose. Here rather than from elsewhere, for it is on the request's path and small.

/// A secret key.
#[derive(Clone, Copy)]
pub(in crate::routing) struct SipKey {
    k0: u64,
    k1: u64,
}

#[derive(Clone, Copy)]
struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl SipKey {
    pub fn new(key: [u8; 16]) -> Self {
        let key = u128::from_le_bytes(key);
        Self { k0: key as u64, k1: (key >> 64) as u64 }
    }

    pub fn hash(self, input: &[u8]) -> u128 {
        let Self { k0, k1 } = self;
        let mut state = State {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
        };
        let (words, rest) = input.as_chunks::<8>();
        for word in words {
            state.take(u64::from_le_bytes(*word));
        }
        // The last word ends with the input's length.
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[7] = input.len() as u8;
        state.take(u64::from_le_bytes(last));
        state.v2 ^= 0xee;
        let low = state.finish();
        state.v1 ^= 0xdd;
        let high = state.finish();
        u128::from(high) << 64 | u128::from(low)
    }
}

impl State {
    fn take(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }

    fn finish(&mut self) -> u64 {
        for _ in 0..4 {
            self.round();
        }
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32).wrapping_add(self.v3);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and inputs 00 01 02 … of the authors' own test vectors.
    #[test]
    fn it_is_what_its_authors_say() {
        let key = SipKey::new(std::array::from_fn(|byte| byte as u8));
        let vectors = [
            (0u8, 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293),
            (1, 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45),
            (7, 0xa1f1_ebbe_d8db_c153_c0b8_4aa6_1ff0_8239),
            (8, 0x3b62_a9ba_6258_f561_0f83_e264_f314_97b4),
            (15, 0x5493_e999_33b0_a811_7e08_ec0f_97cf_c3d9),
            (36, 0x3dc4_7d1f_29c4_4846_1e9e_76ed_904f_6711),
        ];
        for (length, expected) in vectors {
            let input: Vec<u8> = (0..length).collect();
            assert_eq!(key.hash(&input).swap_bytes(), expected, "{length} bytes");
        }
    }
}
