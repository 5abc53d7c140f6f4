//! Where conversations stand, as documents and back.
//!
//! | key | what it holds |
//! | --- | --- |
//! | `pins-secret` | the key of the hash that stands for a conversation's id; made once |
//! | `pins/{segment}` | the pins of one segment of the table, see [`encode`] |
//!
//! Both are written aside: they are no news to those who follow the store. A document of pins is no state that an
//! operator ordered, so one that cannot be read costs its pins and nothing else: it is told, and left out.
//!
//! A million pins are 28 MB, in 256 documents of which those are written that have changed, at most
//! [`CHUNK_BYTES`] and one document's rest in a commit. A process that is killed loses what changed since.
//!
//! Responses in flight are not written down. A process that takes another's place so has all pins idle, although the
//! old one may still answer some of them: see [`crate::takeover`].

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use super::persist::Written;
use super::store::{Documents, StoreError};
use crate::routing::ids::{AgentId, EnvironmentId, VersionId};
use crate::routing::pin::{PinKey, PinRecord, PinSecret, Pins, Place, SharedPins};

/// What one commit writes of pins: little enough that a rollback behind it hardly waits.
const CHUNK_BYTES: usize = 1 << 20;
/// How many documents are read at once.
const PAGE: usize = 16;

const SECRET: &str = "pins-secret";
const PINS: &str = "pins/";

/// The first bytes of every document: what it is, and of which format.
const MAGIC: &[u8; 4] = b"pin1";
const PIN_BYTES: usize = 28;

/// The instance's secret, and the document to write where it is a new one. With a new one nothing that was written
/// before is found again.
pub fn secret(store: &dyn Documents) -> Result<(PinSecret, Option<Written>), StoreError> {
    if let Some(document) = store.get(SECRET)? {
        match <[u8; 32]>::try_from(document.value.as_slice()) {
            Ok(secret) => return Ok((PinSecret(secret), None)),
            Err(_) => tracing::warn!("the stored document {SECRET} cannot be read: no conversation is found again"),
        }
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| StoreError::Failed(format!("the system has no random numbers: {error}")))?;
    Ok((PinSecret(secret), Some((SECRET.into(), Some(secret.to_vec())))))
}

/// What was found in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenUp {
    pub pins: usize,
    /// Of versions that are gone, or more than there is room for.
    pub left_out: usize,
    /// Documents.
    pub unreadable: usize,
}

/// Reads all pins of versions that `knows` knows. Segments whose documents say something else than the table are
/// marked, so that the next checkpoint puts them right.
pub fn take_up(
    store: &dyn Documents,
    pins: &Pins,
    knows: impl Fn(&EnvironmentId, &AgentId, &VersionId) -> bool,
) -> TakenUp {
    let mut taken = TakenUp::default();
    let mut after: Option<String> = None;
    loop {
        let page = match store.range(PINS, after.as_deref(), PAGE) {
            Ok(page) => page,
            Err(why) => {
                tracing::warn!(%why, "stored conversations cannot be read: those begin anew");
                taken.unreadable += 1;
                return taken;
            }
        };
        let Some((last, _)) = page.last() else { return taken };
        after = Some(last.clone());
        for (key, document) in &page {
            let segment = key.strip_prefix(PINS).and_then(|number| number.parse().ok());
            let stored = decode(&document.value);
            let (Some(segment), Ok(stored)) = (segment, stored) else {
                tracing::warn!(
                    key,
                    "a document of conversations cannot be read: those begin anew; is it of another release?"
                );
                taken.unreadable += 1;
                segment.into_iter().for_each(|segment| pins.mark_changed(segment));
                continue;
            };
            let records = stored.records(pins, &knows);
            let imported = pins.import(records);
            taken.pins += imported;
            taken.left_out += stored.pins.len() - imported;
            if imported < stored.pins.len() {
                pins.mark_changed(segment);
            }
        }
    }
}

/// All that has changed, to be written in commits that are no longer than they may be. What is not written when it is
/// dropped is written next time.
pub struct Pass {
    pins: SharedPins,
    todo: VecDeque<usize>,
    /// Given out, and not known to be written.
    in_hand: Vec<usize>,
}

impl Pass {
    pub fn begin(pins: SharedPins) -> Self {
        Self { todo: pins.changed_segments().into(), pins, in_hand: Vec::new() }
    }
}

/// The documents of one commit after the other.
impl Iterator for Pass {
    type Item = Vec<Written>;

    /// Whoever asks has written those before.
    fn next(&mut self) -> Option<Vec<Written>> {
        self.in_hand.clear();
        let (mut documents, mut bytes) = (Vec::new(), 0);
        while bytes < CHUNK_BYTES
            && let Some(segment) = self.todo.pop_front()
        {
            self.in_hand.push(segment);
            let records = self.pins.export(segment);
            let document = (!records.is_empty()).then(|| encode(&records));
            bytes += document.as_ref().map_or(0, Vec::len);
            documents.push((format!("{PINS}{segment:03}"), document));
        }
        (!documents.is_empty()).then_some(documents)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.todo.iter().chain(&self.in_hand).for_each(|segment| self.pins.mark_changed(*segment));
    }
}

/// In little-endian numbers: [`MAGIC`], how many names, the names (three texts with their lengths), and then the pins:
/// name, key, created, last used.
fn encode(records: &[PinRecord]) -> Vec<u8> {
    let mut numbers: HashMap<*const Place, u32> = HashMap::new();
    let mut names = Vec::new();
    let mut pins = Vec::with_capacity(records.len() * PIN_BYTES);
    for PinRecord { key, place, created, last_used } in records {
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let number = *numbers.entry(Arc::as_ptr(place)).or_insert_with(|| {
            for text in [place.agent.environment.as_str(), place.agent.id.as_str(), place.version.as_str()] {
                names.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                names.extend(text.as_bytes());
            }
            next
        });
        pins.extend(number.to_le_bytes());
        pins.extend(key.to_u128().to_le_bytes());
        pins.extend(created.to_le_bytes());
        pins.extend(last_used.to_le_bytes());
    }
    let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX).to_le_bytes();
    [MAGIC.as_slice(), &count, &names, &pins].concat()
}

/// A document, as far as it explains itself.
struct Stored<'a> {
    names: Vec<[&'a str; 3]>,
    pins: Vec<StoredPin>,
}

struct StoredPin {
    name: usize,
    key: PinKey,
    created: u32,
    last_used: u32,
}

struct Unreadable;

fn decode(bytes: &[u8]) -> Result<Stored<'_>, Unreadable> {
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(Unreadable)?;
    let count = number(&mut rest)?;
    let mut names = Vec::new();
    for _ in 0..count {
        names.push([text(&mut rest)?, text(&mut rest)?, text(&mut rest)?]);
    }
    let (pins, []) = rest.as_chunks::<PIN_BYTES>() else { return Err(Unreadable) };
    let pin = |mut pin: &[u8]| {
        let name = number(&mut pin)? as usize;
        let key = u128::from_le_bytes(take(&mut pin)?);
        let (created, last_used) = (number(&mut pin)?, number(&mut pin)?);
        let stored = StoredPin { name, key: PinKey::from_u128(key), created, last_used };
        if name < names.len() { Ok(stored) } else { Err(Unreadable) }
    };
    let pins = pins.iter().map(|bytes| pin(bytes)).collect::<Result<_, _>>()?;
    Ok(Stored { names, pins })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Unreadable> {
    let (taken, after) = rest.split_first_chunk().ok_or(Unreadable)?;
    *rest = after;
    Ok(*taken)
}

fn number(rest: &mut &[u8]) -> Result<u32, Unreadable> {
    take(rest).map(u32::from_le_bytes)
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Unreadable> {
    let length = number(rest)? as usize;
    let (text, after) = rest.split_at_checked(length).ok_or(Unreadable)?;
    *rest = after;
    std::str::from_utf8(text).map_err(|_| Unreadable)
}

impl Stored<'_> {
    /// Without those of versions that are not known any more.
    fn records(
        &self,
        pins: &Pins,
        knows: impl Fn(&EnvironmentId, &AgentId, &VersionId) -> bool,
    ) -> impl Iterator<Item = PinRecord> {
        let place = |[environment, agent, version]: &[&str; 3]| {
            let (environment, agent) = (EnvironmentId::new(*environment), AgentId::new(*agent));
            let version = VersionId::new(*version);
            knows(&environment, &agent, &version).then(|| pins.place(&environment, &agent, &version))
        };
        let places: Vec<_> = self.names.iter().map(place).collect();
        self.pins.iter().filter_map(move |pin| {
            let place = places.get(pin.name)?.clone()?;
            Some(PinRecord { key: pin.key, place, created: pin.created, last_used: pin.last_used })
        })
    }
}

#[cfg(test)]
mod tests;
