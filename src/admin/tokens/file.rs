//! `tokens.yaml`: read whole, written whole.
//!
//! A change is written to `tokens.yaml.new`, which nobody else may create meanwhile: it is the lock between two
//! commands. Then it takes the name of the old file, so that a reader finds the one or the other, never a half.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Fingerprint, MAX_FILE_BYTES, MAX_TOKENS, Role, Token, TokenName, random};

const HEAD: &str = "# Written by `pointsman token`. The hashes cannot be turned back into tokens.\n";

/// The user id of root.
const ROOT: u32 = 0;

#[derive(Clone, Debug)]
pub struct TokenFile {
    path: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    tokens: Vec<Token>,
}

impl TokenFile {
    pub fn in_state_dir(state_dir: &Path) -> Self {
        Self { path: state_dir.join("tokens.yaml") }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `None`: there is no such file.
    pub fn read(&self) -> anyhow::Result<Option<Vec<Token>>> {
        match File::open(&self.path) {
            Ok(file) => self.read_from(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.path.display())),
        }
    }

    pub(super) fn read_from(&self, file: File) -> anyhow::Result<Vec<Token>> {
        let mut text = String::new();
        let name = || self.path.display();
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).with_context(|| format!("cannot read {}", name()))?;
        ensure!(text.len() as u64 <= MAX_FILE_BYTES, "{} is larger than {MAX_FILE_BYTES} bytes", name());
        let contents: Contents = serde_yaml::from_str(&text).with_context(|| {
            format!("{} is no token file; restore it, or remove it and make the tokens anew", name())
        })?;
        Ok(contents.tokens)
    }

    /// Adds a token and returns its text, which is kept nowhere. Expired ones go.
    pub fn create(
        &self,
        name: TokenName,
        role: Role,
        lifetime: Option<Duration>,
        now: SystemTime,
    ) -> anyhow::Result<String> {
        let expires_at = lifetime.map(|l| now.checked_add(l).context("the expiry is too far away")).transpose()?;
        let text = random()?;
        let sha256 = Fingerprint::of(text.as_bytes());
        self.change(|tokens| {
            tokens.retain(|token| !token.is_expired(now));
            if tokens.iter().any(|token| token.name == name) {
                bail!("there is a token named {}; choose another name, or revoke it first", name.as_str());
            }
            ensure!(tokens.len() < MAX_TOKENS, "there are {MAX_TOKENS} tokens; revoke some first");
            tokens.push(Token { name, role, sha256, created_at: now, expires_at });
            Ok(())
        })?;
        Ok(text)
    }

    pub fn revoke(&self, name: &str) -> anyhow::Result<()> {
        self.change(|tokens| {
            let before = tokens.len();
            tokens.retain(|token| token.name.as_str() != name);
            ensure!(tokens.len() < before, "no token is named {name:?}; `pointsman token list` shows those there are");
            Ok(())
        })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Token>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let mut draft = Draft::open(self.path.with_extension("yaml.new"))?;
        draft.give_to_owner_of(directory)?;
        let mut tokens = self.read()?.unwrap_or_default();
        change(&mut tokens)?;
        draft.file.write_all(HEAD.as_bytes())?;
        draft.file.write_all(serde_yaml::to_string(&Contents { tokens })?.as_bytes())?;
        draft.file.sync_all()?;
        fs::rename(&draft.path, &self.path).with_context(|| format!("cannot write {}", self.path.display()))?;
        draft.renamed = true;
        File::open(directory)?.sync_all().with_context(|| format!("cannot write {}", directory.display()))
    }
}

/// The file to be, removed again unless it took its name.
struct Draft {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Draft {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Self { path, file, renamed: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("another `pointsman token` is changing the tokens; if none is, remove {}", path.display())
            }
            Err(error) => Err(error).with_context(|| format!("cannot create {}", path.display())),
        }
    }

    /// What root makes in a service's directory, the service must be able to read, or it lets nobody in. Nobody else
    /// can give files away: theirs stay theirs.
    fn give_to_owner_of(&self, directory: &Path) -> anyhow::Result<()> {
        let owner = fs::metadata(directory).with_context(|| format!("cannot read {}", directory.display()))?;
        if self.file.metadata()?.uid() != ROOT || owner.uid() == ROOT {
            return Ok(());
        }
        fchown(&self.file, Some(owner.uid()), Some(owner.gid()))
            .with_context(|| format!("cannot give {} to the owner of its directory", self.path.display()))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.path);
        }
    }
}
