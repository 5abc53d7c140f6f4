//! Weights → bucket ranges, moving only the buckets that must move.
//!
//! Two layouts exist. The *canonical* one lays the arms out in their author's order from bucket 0; a
//! canary is listed before stable, so it has the low buckets and growing it keeps everybody who was in
//! it. An *evolved* one starts from the layout that is live and hands over exactly ½·Σ|Δweight| buckets:
//! whoever gains loses nothing, whoever loses gains nothing.
//!
//! Minimal movement leaves arms in pieces. Two or three arms stay in at most four; more arms may add a
//! few pieces with each change. Above [`PIECES_MAX`] the layout falls back to the canonical one: that one
//! change moves more buckets than it must. It takes hundreds of changes to a split of many arms to get there.
//!
//! LaunchDarkly's rule compares a fraction with running sums instead of looking up a bucket, and is always
//! canonical: its SDKs know no other layout.

use std::ops::RangeInclusive;

use super::bucket::Bucketed;
use super::ids::{BUCKETS, Weight};
use super::spec::Scheme;

/// An index into an agent's versions, and its share.
pub type Arm = (usize, Weight);

/// The most pieces of a layout: 16 KiB for an agent, and ten comparisons for a look-up.
pub const PIECES_MAX: usize = 1024;

/// Bucket ranges over an agent's versions. Every bucket belongs to exactly one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// In bucket order, without gaps, never empty; neighbours belong to different versions.
    pieces: Box<[Piece]>,
    /// Under `launchdarkly`: each arm's running sum in author's order, zero weights included.
    sums: Option<Box<[(f64, usize)]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: u32,
    /// Exclusive.
    end: u32,
    version: usize,
}

impl Piece {
    fn buckets(&self) -> u32 {
        self.end - self.start
    }
}

/// Weights that are no split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the weights add up to {}%, expected 100%", *sum_thousandths as f64 / 1000.0)]
pub struct WeightsError {
    /// In thousandths of a percent.
    pub sum_thousandths: u64,
}

impl Split {
    /// Everything to one version.
    pub fn all(version: usize) -> Self {
        Self { pieces: Box::new([Piece { start: 0, end: BUCKETS, version }]), sums: None }
    }

    /// The arms in their author's order from bucket 0, as `scheme` compares them.
    pub fn canonical(scheme: Scheme, arms: &[Arm]) -> Result<Self, WeightsError> {
        check_sum(arms)?;
        let pieces = canonical_pieces(arms).into();
        Ok(Self { pieces, sums: (scheme == Scheme::LaunchDarkly).then(|| running_sums(arms)) })
    }

    /// The canonical layout of weights without versions: [`Split::pick`] answers with an arm's position.
    pub fn numbered(scheme: Scheme, weights: &[Weight]) -> Result<Self, WeightsError> {
        Self::canonical(scheme, &weights.iter().copied().enumerate().collect::<Vec<_>>())
    }

    /// A layout that was kept: where each range ends (exclusive), and its version. `None` where these are not
    /// all the buckets in order, or too many pieces.
    pub fn from_ends(ends: impl Iterator<Item = (u32, usize)>) -> Option<Self> {
        let mut start = 0;
        let mut pieces = Vec::new();
        for (end, version) in ends {
            if end <= start || pieces.len() == PIECES_MAX {
                return None;
            }
            pieces.push(Piece { start, end, version });
            start = end;
        }
        (start == BUCKETS).then(|| Self { pieces: merged(pieces.into_iter()).into(), sums: None })
    }

    /// The live layout changed to the new weights, with the fewest buckets moved. A version that is not among
    /// the arms loses all it had.
    pub fn evolve(&self, arms: &[Arm]) -> Result<Self, WeightsError> {
        check_sum(arms)?;
        Ok(Self { pieces: evolved_pieces(&self.pieces, arms, PIECES_MAX).into(), sums: None })
    }

    /// The same layout with the versions numbered anew: their list may have changed between two tables.
    pub fn renumbered(&self, new_index: impl Fn(usize) -> usize) -> Self {
        let renumber = |piece: &Piece| Piece { version: new_index(piece.version), ..*piece };
        Self { pieces: merged(self.pieces.iter().map(renumber)).into(), sums: None }
    }

    /// The version that a key falls to.
    pub fn pick(&self, key: Bucketed) -> usize {
        if let (Some(sums), Some(fraction)) = (&self.sums, key.fraction) {
            return pick_by_fraction(sums, fraction);
        }
        let at = self.pieces.partition_point(|piece| piece.end <= key.bucket);
        self.pieces[at.min(self.pieces.len() - 1)].version
    }

    /// The version that has every bucket, where one has. Then no key is needed.
    pub fn sole(&self) -> Option<usize> {
        match &*self.pieces {
            [only] => Some(only.version),
            _ => None,
        }
    }

    /// In bucket order. Under `launchdarkly` an edge may be off by rounding: there the fraction decides.
    pub fn ranges(&self) -> impl Iterator<Item = (RangeInclusive<u32>, usize)> + '_ {
        self.pieces.iter().map(|piece| (piece.start..=piece.end - 1, piece.version))
    }

    pub fn weight(&self, version: usize) -> Weight {
        let buckets = self.pieces.iter().filter(|piece| piece.version == version).map(Piece::buckets).sum();
        // The pieces cover each bucket once, so no version can have more than all.
        Weight::new(buckets).unwrap_or(Weight::FULL)
    }
}

/// Whether the weights are a split, whatever they are the weights of.
pub fn check_sum<V>(arms: &[(V, Weight)]) -> Result<(), WeightsError> {
    let sum_thousandths = arms.iter().map(|(_, weight)| u64::from(weight.get())).sum();
    if sum_thousandths == u64::from(BUCKETS) { Ok(()) } else { Err(WeightsError { sum_thousandths }) }
}

/// Added up in doubles, one by one, as the SDKs do: 0.1 + 0.2 must be their 0.30000000000000004.
fn running_sums(arms: &[Arm]) -> Box<[(f64, usize)]> {
    let mut sum = 0.0;
    let sums = arms.iter().map(|(version, weight)| {
        sum += f64::from(weight.get()) / f64::from(BUCKETS);
        (sum, *version)
    });
    sums.collect()
}

/// The first arm whose running sum exceeds the fraction. Rounding can leave a fraction at or above the last
/// sum; the SDKs give it to the last arm, whatever its weight.
fn pick_by_fraction(sums: &[(f64, usize)], fraction: f64) -> usize {
    let found = sums.iter().find(|(sum, _)| fraction < *sum).or(sums.last());
    found.map_or(0, |(_, version)| *version)
}

fn canonical_pieces(arms: &[Arm]) -> Vec<Piece> {
    let mut start = 0;
    merged(arms.iter().map(|(version, weight)| {
        let piece = Piece { start, end: start + weight.get(), version: *version };
        start = piece.end;
        piece
    }))
}

/// Drops empty pieces and joins neighbours of the same version.
fn merged(pieces: impl Iterator<Item = Piece>) -> Vec<Piece> {
    let mut merged: Vec<Piece> = Vec::new();
    for piece in pieces.filter(|piece| piece.start < piece.end) {
        match merged.last_mut() {
            Some(last) if last.version == piece.version => last.end = piece.end,
            _ => merged.push(piece),
        }
    }
    merged
}

fn evolved_pieces(live: &[Piece], arms: &[Arm], pieces_max: usize) -> Vec<Piece> {
    let canonical = canonical_pieces(arms);
    let mut layout = Layout::new(live, arms);
    while let Some(handover) = layout.next_handover(&canonical) {
        layout.apply(handover);
        if layout.pieces.len() > pieces_max {
            return canonical;
        }
    }
    layout.pieces
}

/// A layout on its way to new weights.
struct Layout {
    pieces: Vec<Piece>,
    /// By version: how many buckets it has too many (positive) or too few (negative). Adds up to zero.
    surplus: Vec<i64>,
}

/// The buckets `start..end`, all of one version with a surplus, go to `to`.
struct Handover {
    start: u32,
    end: u32,
    to: usize,
}

impl Layout {
    fn new(live: &[Piece], arms: &[Arm]) -> Self {
        let versions = live.iter().map(|piece| piece.version).chain(arms.iter().map(|(version, _)| *version));
        let mut surplus = vec![0_i64; versions.max().map_or(0, |max| max + 1)];
        for piece in live {
            surplus[piece.version] += i64::from(piece.buckets());
        }
        for (version, weight) in arms {
            surplus[*version] -= i64::from(weight.get());
        }
        Self { pieces: live.to_vec(), surplus }
    }

    /// The next buckets to hand over, or none when all weights are met. Each handover goes from a version
    /// with too many to one with too few and is no larger than either needs, so the sum of the movements is
    /// the least possible, and each one ends a surplus, a need, a piece or an overlap: the loop is short.
    ///
    /// The order of preference keeps the pieces few: first move an edge between two neighbours, then what
    /// the canonical layout gives to the needy version, then an edge across the ends, then any piece.
    fn next_handover(&self, canonical: &[Piece]) -> Option<Handover> {
        let needy = self.surplus.iter().position(|surplus| *surplus < 0)?;
        self.shifted_edge()
            .or_else(|| self.homecoming(canonical))
            .or_else(|| self.edge_across_the_ends())
            .or_else(|| self.any_piece(needy))
    }

    fn wanted(&self, from: &Piece, to: usize) -> u32 {
        let most = self.surplus[from.version].min(-self.surplus[to]).clamp(0, i64::from(from.buckets()));
        most as u32
    }

    /// The smallest piece with a surplus next to a version in need gives from that side.
    fn shifted_edge(&self) -> Option<Handover> {
        let edges = self.pieces.windows(2).flat_map(|pair| {
            let (left, right) = (pair[0], pair[1]);
            [(left, self.end_of(&left, right.version)), (right, self.start_of(&right, left.version))]
        });
        let useful = edges.filter(|(_, handover)| handover.start < handover.end);
        useful.min_by_key(|(from, _)| (from.buckets(), from.start)).map(|(_, handover)| handover)
    }

    fn start_of(&self, from: &Piece, to: usize) -> Handover {
        Handover { start: from.start, end: from.start + self.wanted(from, to), to }
    }

    fn end_of(&self, from: &Piece, to: usize) -> Handover {
        Handover { start: from.end - self.wanted(from, to), end: from.end, to }
    }

    /// Buckets of a surplus that the canonical layout gives to a version in need.
    fn homecoming(&self, canonical: &[Piece]) -> Option<Handover> {
        self.pieces.iter().flat_map(|from| canonical.iter().map(move |home| (from, home))).find_map(|(from, home)| {
            let (start, end) = (from.start.max(home.start), from.end.min(home.end));
            let buckets = self.wanted(from, home.version).min(end.saturating_sub(start));
            (buckets > 0).then_some(Handover { start, end: start + buckets, to: home.version })
        })
    }

    fn edge_across_the_ends(&self) -> Option<Handover> {
        let (first, last) = (self.pieces.first()?, self.pieces.last()?);
        let across = [self.end_of(last, first.version), self.start_of(first, last.version)];
        across.into_iter().find(|handover| handover.start < handover.end)
    }

    fn any_piece(&self, needy: usize) -> Option<Handover> {
        let spare = self.pieces.iter().filter(|piece| self.surplus[piece.version] > 0);
        spare.min_by_key(|piece| (piece.buckets(), piece.start)).map(|piece| self.end_of(piece, needy))
    }

    fn apply(&mut self, handover: Handover) {
        let Handover { start, end, to } = handover;
        let mut next = Vec::with_capacity(self.pieces.len() + 2);
        for piece in &self.pieces {
            if piece.end <= start || end <= piece.start {
                next.push(*piece);
                continue;
            }
            self.surplus[piece.version] -= i64::from(end - start);
            next.push(Piece { end: start, ..*piece });
            next.push(Piece { start, end, version: to });
            next.push(Piece { start: end, ..*piece });
        }
        self.surplus[to] += i64::from(end - start);
        self.pieces = merged(next.into_iter());
    }
}

#[cfg(test)]
mod tests;
