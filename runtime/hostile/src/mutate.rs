//! Makes new inputs of old ones: flips, numbers that parsers trip over, cuts, repetitions, splices, words of the
//! format. Everything comes from one seed.

/// SplitMix64: small, fast, the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() { None } else { Some(&items[self.below(items.len())]) }
    }
}

/// Numbers at the edges of what fields can hold.
const NUMBERS: [i64; 20] = [
    0,
    1,
    -1,
    -2,
    7,
    16,
    61,
    127,
    128,
    255,
    256,
    65_535,
    65_536,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    1 << 31,
    i64::MAX,
    i64::MIN,
    i64::MAX >> 2,
];

/// Changes `input` in one to a few places; `others` are inputs to splice with, `words` tokens of the format.
pub(crate) fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&[u8]], bytes_max: usize, random: &mut Random) {
    let rounds = 1 + random.below(4);
    for _ in 0..rounds {
        one(input, others, words, bytes_max, random);
    }
    input.truncate(bytes_max);
}

fn one(input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&[u8]], bytes_max: usize, random: &mut Random) {
    if input.is_empty() {
        input.push(random.next() as u8);
        return;
    }
    let at = random.below(input.len());
    match random.below(12) {
        0 | 1 => input[at] ^= 1 << random.below(8),
        2 => input[at] = random.next() as u8,
        3 | 4 => number(input, at, random),
        5 => input.truncate(at),
        6 => {
            let end = at + random.below(input.len() - at) + 1;
            input.drain(at..end.min(at + 64));
        }
        7 => {
            let end = (at + 1 + random.below(32)).min(input.len());
            let part = input[at..end].to_vec();
            insert(input, at, &part);
        }
        8 => {
            // Deep nesting and long runs are what recursive parsers fall over.
            let word = random.pick(words).map_or_else(|| input[at..=at].to_vec(), |word| word.to_vec());
            let times = 1 << random.below(13);
            let times = times.min(bytes_max.saturating_sub(input.len()) / word.len().max(1));
            insert(input, at, &word.repeat(times));
        }
        9 | 10 => {
            if let Some(word) = random.pick(words) {
                insert(input, at, word);
            }
        }
        _ => {
            if let Some(other) = random.pick(others).filter(|other| !other.is_empty()) {
                let from = random.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    input.splice(at..at, part.iter().copied());
}

/// Overwrites 1 to 8 bytes with a number, either way around.
fn number(input: &mut [u8], at: usize, random: &mut Random) {
    let length = input.len() as i64;
    let base = NUMBERS[random.below(NUMBERS.len())];
    let number = match random.below(4) {
        0 => length.wrapping_add(base),
        1 => base.wrapping_add(random.below(5) as i64 - 2),
        _ => base,
    };
    let width = 1 << random.below(4);
    let big = number.to_be_bytes();
    let bytes: Vec<u8> =
        if random.below(2) == 0 { big[8 - width..].to_vec() } else { number.to_le_bytes()[..width].to_vec() };
    for (into, byte) in input[at..].iter_mut().zip(bytes) {
        *into = byte;
    }
}
