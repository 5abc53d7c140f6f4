//! Host, path and headers → agent.

use super::ids::EnvironmentId;
use super::table::Head;

/// The compiled routes of all agents.
#[derive(Default)]
pub struct Matcher;

impl Matcher {
    pub(super) fn find(&self, _environment: &EnvironmentId, _head: &Head<'_>) -> Option<usize> {
        None
    }
}
