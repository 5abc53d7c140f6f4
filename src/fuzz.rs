//! Fuzzing without a compiler's help: what a target holds of every input is tried on a corpus and on mutations of it.
//!
//! A target is a test named `<target>_fuzz` beside the code that it tries. It gives [`run`] a property: a function that
//! panics where an input shows a fault. Its corpus is `tests/corpus/<target>/`, one input a file, beside what it takes
//! from examples that are there anyhow. `cargo test` tries the corpus and a fixed number of mutations, the same each
//! time; `tests/fuzz` goes on for as long as one likes, from a seed that it prints.
//!
//! An input that fails is made smaller as long as it goes on failing, and written to the corpus: from then on every run
//! begins with it. Bounds: an input has at most [`INPUT_BYTES_MAX`]; one that fails is cut [`SHRINK_TRIES_MAX`] times.
//!
//! Not here: coverage. libFuzzer's needs a nightly compiler, which the project does not ask for; so the dictionaries
//! and the corpora carry the knowledge of what is worth trying.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::random::Random;

const INPUT_BYTES_MAX: usize = 32 << 10;
const SHRINK_TRIES_MAX: usize = 400;

/// For so long each target runs, in place of its fixed number of mutations.
const SECONDS: &str = "POINTSMAN_FUZZ_SECONDS";
/// Where the mutations begin.
const SEED: &str = "POINTSMAN_FUZZ_SEED";

/// What is tried, and on what.
pub struct Target<'a> {
    /// The folder of its corpus.
    pub name: &'static str,
    /// What a blind mutation would hardly hit upon.
    pub words: &'a [&'a str],
    /// Inputs beside the corpus.
    pub seeds: Vec<Vec<u8>>,
    /// How many mutations `cargo test` tries.
    pub cases: u64,
}

/// Tries `property` on the corpus and on mutations of it; it fails where it panics.
#[track_caller]
pub fn run(target: Target<'_>, property: impl Fn(&[u8])) {
    let name = target.name;
    let mut corpus = target.seeds;
    for input in &corpus {
        check(name, "a seed", input, &property);
    }
    for path in files(name) {
        let input = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(holds(&property, &input), "{name}: {} fails: {}", path.display(), shown(&input));
        corpus.push(input);
    }
    assert!(!corpus.is_empty(), "{name}: nothing to begin with");

    let limit = Limit::of(target.cases);
    let random = Random::new(limit.seed);
    let (mut cases, mut slowest) = (0, Duration::ZERO);
    let begun = Instant::now();
    while limit.lasts(cases, begun) {
        let input = mutate(&mut random.fork(cases), &corpus, target.words);
        let started = Instant::now();
        check(name, &format!("mutation {cases} of seed {}", limit.seed), &input, &property);
        slowest = slowest.max(started.elapsed());
        cases += 1;
    }
    if limit.time.is_some() {
        // Past the capture of a test's output: whoever runs it for hours wants to see that it ran.
        let _ = writeln!(
            std::io::stderr().lock(),
            "{name}: {cases} mutations of {} inputs, seed {}, held; the slowest took {slowest:?}",
            corpus.len(),
            limit.seed
        );
    }
}

/// How long mutations are tried.
struct Limit {
    seed: u64,
    cases: u64,
    time: Option<Duration>,
}

impl Limit {
    fn of(cases: u64) -> Self {
        let number = |name| {
            let text = std::env::var(name).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text}: expected a whole number")))
        };
        let time = number(SECONDS).map(Duration::from_secs);
        let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
        let seed = number(SEED).unwrap_or_else(|| if time.is_some() { clock() } else { 0 });
        Self { seed, cases, time }
    }

    fn lasts(&self, cases: u64, begun: Instant) -> bool {
        self.time.map_or(cases < self.cases, |time| begun.elapsed() < time)
    }
}

fn holds(property: &impl Fn(&[u8]), input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| property(input))).is_ok()
}

/// Panics where the property does not hold, with the smallest such input kept.
#[track_caller]
fn check(name: &str, what: &str, input: &[u8], property: &impl Fn(&[u8])) {
    if holds(property, input) {
        return;
    }
    let small = shrink(input, |input| !holds(property, input));
    let path = folder(name).join(format!("found-{:016x}", fingerprint(&small)));
    let kept = std::fs::create_dir_all(folder(name)).and_then(|()| std::fs::write(&path, &small));
    let kept = kept.map_or_else(|error| error.to_string(), |()| format!("kept as {}", path.display()));
    panic!(
        "{name}: {what} fails ({} bytes, made {}; {kept}): {}\n`cargo test --lib {name}_fuzz` begins with it from now on",
        input.len(),
        small.len(),
        shown(&small)
    );
}

/// Takes out parts, halves first and single bytes last, as long as what is left `fails`.
fn shrink(input: &[u8], fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let (mut small, mut tries) = (input.to_vec(), 0);
    let mut part = small.len() / 2;
    while part > 0 {
        let (mut at, before) = (0, small.len());
        while at < small.len() && tries < SHRINK_TRIES_MAX {
            let end = (at + part).min(small.len());
            let shorter = [&small[..at], &small[end..]].concat();
            tries += 1;
            if fails(&shorter) { small = shorter } else { at = end }
        }
        // Once nothing of this size can go, smaller parts may.
        if small.len() == before || tries == SHRINK_TRIES_MAX {
            part /= 2;
        }
    }
    small
}

fn mutate(random: &mut Random, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = pick(random, corpus).clone();
    for _ in 0..=random.below(4) {
        change(random, &mut input, corpus, words);
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str]) {
    const BYTES: &[u8] = b"\0\t\n\x0b\r \"#%&'+,-./0:;<=>?@AZ[\\]_az{|}~\x7f\x80\xbf\xc3\xef\xff";
    let range = part(random, input.len());
    match random.below(10) {
        0 if !range.is_empty() => input[range.start] ^= 1 << random.below(8),
        1 if !range.is_empty() => input[range.start] = *pick(random, BYTES),
        2 => input.insert(range.start, *pick(random, BYTES)),
        3 => drop(input.drain(range)),
        4 => {
            let again = input[range.clone()].to_vec();
            let times = 1 + random.below(40) as usize;
            input.splice(range.end..range.end, again.repeat(times));
        }
        5 => input.truncate(range.start),
        6 => {
            let other = pick(random, corpus);
            let taken = part(random, other.len());
            input.splice(range, other[taken].iter().copied());
        }
        7 if !range.is_empty() => {
            let moved: Vec<u8> = input.drain(range).collect();
            let at = random.below(input.len() as u64 + 1) as usize;
            input.splice(at..at, moved);
        }
        8 if !words.is_empty() => drop(input.splice(range, pick(random, words).bytes())),
        _ if !words.is_empty() => drop(input.splice(range.start..range.start, pick(random, words).bytes())),
        _ => {}
    }
}

fn pick<'a, T>(random: &mut Random, of: &'a [T]) -> &'a T {
    &of[random.below(of.len() as u64) as usize]
}

/// A part of so many bytes, most often a short one; empty only at the end.
fn part(random: &mut Random, length: usize) -> std::ops::Range<usize> {
    let start = random.below(length as u64 + 1) as usize;
    let most = if random.chance(0.8) { 8 } else { length };
    let taken = 1 + random.below(most.max(1) as u64) as usize;
    start..(start + taken).min(length)
}

/// Cuts an input into pieces as a network might; how depends on the input alone.
pub fn pieces(input: &[u8]) -> Vec<&[u8]> {
    let mut random = Random::new(fingerprint(input));
    let most = 1 + random.below(40);
    let (mut pieces, mut rest) = (vec![], input);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + random.below(most) as usize).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// FNV-1a.
fn fingerprint(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Each file below a folder of the repository, as an input.
pub fn inputs(directory: &str) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).expect(directory);
    let mut paths: Vec<_> = files.map(|entry| entry.expect("a file").path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a file that can be read")).collect()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(name)).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths
}

fn shown(input: &[u8]) -> String {
    let text = input[..input.len().min(400)].escape_ascii().to_string();
    if input.len() > 400 { format!("{text}…") } else { text }
}

#[test]
fn what_fails_is_made_small() {
    let fails = |input: &[u8]| input.contains(&b'x') && input.windows(2).any(|pair| pair == b"yz");
    assert_eq!(shrink(b"....x........yz......x", fails).len(), 3);
}

#[test]
fn mutations_differ_and_depend_on_the_seed_alone() {
    let corpus = [b"one input".to_vec(), b"and another".to_vec()];
    let all = |seed| -> Vec<_> {
        (0..500).map(|case| mutate(&mut Random::new(seed).fork(case), &corpus, &["word"])).collect()
    };
    assert_eq!(all(1), all(1));
    assert_ne!(all(1), all(2));
    let distinct: std::collections::HashSet<_> = all(1).into_iter().collect();
    assert!(distinct.len() > 400, "{}", distinct.len());
}

#[test]
fn pieces_are_the_whole_input() {
    let input: Vec<u8> = (0..=255).collect();
    assert_eq!(pieces(&input).concat(), input);
    assert!(pieces(b"").is_empty());
}
