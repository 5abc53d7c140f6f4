//! What every command has: the server, how to write, and the paths of the API.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{Call, Client, encode};
use super::failure::Failure;
use super::secure::Secure;
use super::server::Server;
use super::text::Style;
use super::wire::{Deployment, Page};

/// A list is read in pages of this many, and to the end.
pub const PAGE: usize = 500;
/// No list is longer; a server that never ends one is not followed for ever.
const MAX_PAGES: usize = 200;

pub struct Session {
    pub client: Client,
    pub environment: Option<String>,
    pub json: bool,
    pub style: Style,
}

impl Session {
    pub fn get(&self, path: String) -> Call {
        Call::get(path).query("environment", self.environment.as_ref())
    }

    /// The path below an agent.
    pub fn agent(agent: &str, below: &str) -> String {
        format!("/api/v1/agents/{}{below}", encode(agent))
    }

    /// The path below one of its deployments.
    pub fn deployment(agent: &str, id: &str, below: &str) -> String {
        Self::agent(agent, &format!("/deployments/{}{below}", encode(id)))
    }

    /// The one that is named, or the agent's current one.
    pub async fn id_of(&self, agent: &str, given: Option<&str>) -> Result<String, Failure> {
        if let Some(id) = given {
            return Ok(id.to_owned());
        }
        let (current, _): (Deployment, _) = self.client.ask(&self.get(Self::agent(agent, "/deployment"))).await?;
        Ok(current.id)
    }

    /// All pages of a list, in its shape and as it came.
    pub async fn list<T: DeserializeOwned>(&self, call: impl Fn() -> Call) -> Result<(Vec<T>, Value), Failure> {
        self.pages(call, PAGE, |_| true).await
    }

    /// Pages of so many, as long as they are wanted.
    pub async fn pages<T: DeserializeOwned>(
        &self,
        call: impl Fn() -> Call,
        page: usize,
        wants_more: impl Fn(&[T]) -> bool,
    ) -> Result<(Vec<T>, Value), Failure> {
        let (mut items, mut documents, mut after) = (Vec::new(), Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let call = call().query("limit", Some(page)).query("after", after.as_ref());
            let (page, mut document): (Page<T>, _) = self.client.ask(&call).await?;
            items.extend(page.items);
            if let Some(Value::Array(page)) = document.get_mut("items").map(Value::take) {
                documents.extend(page);
            }
            after = page.next;
            if after.is_none() || !wants_more(&items) {
                break;
            }
        }
        Ok((items, json!({ "items": documents, "next": after })))
    }

    /// An answer: as it came, or as people read it.
    pub fn show(&self, document: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{document:#}")?
        } else {
            out.write_all(text().as_bytes())?
        }
        Ok(out.flush()?)
    }

    /// A line of progress: beside the answer where that is JSON.
    pub fn note(&self, line: &str) -> io::Result<()> {
        if self.json { writeln!(io::stderr().lock(), "{line}") } else { writeln!(io::stdout().lock(), "{line}") }
    }
}

/// `--token-file` wins: an environment that has a token need not be cleared.
pub fn client(
    server: Server,
    secure: Option<Secure>,
    token: Option<&str>,
    file: Option<&Path>,
) -> Result<Client, Failure> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("--token-file: {} cannot be read", path.display()))
    };
    let from_file = file.map(read).transpose()?;
    let token = from_file.as_deref().or(token).map(str::trim).filter(|token| !token.is_empty());
    Ok(Client::new(server, secure, token)?)
}
