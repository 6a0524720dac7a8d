//! The agent of SSH that a RUN asks for: a socket of its own, behind which the user's agent answers.
//!
//! ```text
//! ssh in the container ─► our socket ─► only what lists keys and what signs ─► the user's agent
//! ```
//!
//! A container's root is nobody on the machine and could not open the user's socket; and whoever has that could add keys to
//! the agent, or take them away. So, as BuildKit does, all other requests are refused. The messages are those of
//! draft-ietf-sshm-ssh-agent: four bytes of length, the highest first, then a byte that says what it is.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// `SSH_AGENTC_REQUEST_IDENTITIES`.
const LIST: u8 = 11;
/// `SSH_AGENTC_SIGN_REQUEST`.
const SIGN: u8 = 13;
/// `SSH_AGENT_FAILURE`, as a whole message.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
/// Bytes of a message, at most; OpenSSH's limit.
const MAX_MESSAGE: usize = 256 << 10;
/// Connections at a time.
const MAX_CLIENTS: usize = 32;

/// A socket that is there, and answered, as long as this is.
pub struct Forward {
    folder: tempfile::TempDir,
    answering: tokio::task::JoinHandle<()>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

impl Forward {
    /// Makes a socket in front of the agent `agent`.
    ///
    /// # Errors
    /// Nobody answers there, or no socket can be made.
    pub async fn new(agent: &Path) -> Result<Forward> {
        let what = || format!("cannot forward the SSH agent {}", agent.display());
        UnixStream::connect(agent).await.map_err(|cause| {
            Error::new(Class::Usage, what())
                .because(cause)
                .hint("name the socket of an agent that runs: `ssh-agent` starts one, `ssh-add` adds keys")
        })?;
        let folder = tempfile::Builder::new().prefix("twostage-agent-").tempdir().or_fail(Class::System, what)?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).or_fail(Class::System, what)?;
        let listener = UnixListener::bind(folder.path().join("agent")).or_fail(Class::System, what)?;
        let agent = agent.to_path_buf();
        let answering = tokio::spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while clients.len() >= MAX_CLIENTS {
                    clients.join_next().await;
                }
                let agent = agent.clone();
                // (A client that fails has gone, or says what is no message.)
                clients.spawn(async move { drop(answer(client, &agent).await) });
                while clients.try_join_next().is_some() {}
            }
        });
        Ok(Forward { folder, answering })
    }

    /// Where the socket is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("agent")
    }
}

async fn answer(mut client: UnixStream, agent: &Path) -> std::io::Result<()> {
    let mut behind = None;
    loop {
        let request = message(&mut client).await?;
        if !matches!(request.get(4), Some(&(LIST | SIGN))) {
            client.write_all(&FAILURE).await?;
            continue;
        }
        let behind = match &mut behind {
            Some(behind) => behind,
            none => none.insert(UnixStream::connect(agent).await?),
        };
        behind.write_all(&request).await?;
        client.write_all(&message(behind).await?).await?;
    }
}

/// One message, its length in front.
async fn message(from: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message).await?;
    let length = message.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
    if length == 0 || length > MAX_MESSAGE {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    message.resize(4 + length, 0);
    from.read_exact(message.get_mut(4..).unwrap_or_default()).await?;
    Ok(message)
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_are_listed_and_used_and_never_added_or_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("real");
        let real = UnixListener::bind(&path).expect("a socket");
        let seen = tokio::spawn(async move {
            // The first one only looks whether somebody answers.
            drop(real.accept().await.expect("a client"));
            let (mut client, _) = real.accept().await.expect("a client");
            let mut seen = Vec::new();
            while let Ok(request) = message(&mut client).await {
                seen.push(request[4]);
                client.write_all(&[0, 0, 0, 2, 12, 7]).await.expect("written");
            }
            seen
        });
        let forward = Forward::new(&path).await.expect("forwarded");
        let mut client = UnixStream::connect(forward.path()).await.expect("a client");
        // Add, remove, remove all, lock, extension: each fails, and the next request is answered.
        for (kind, answer) in [(LIST, 12), (17, 5), (18, 5), (19, 5), (22, 5), (27, 5), (SIGN, 12)] {
            client.write_all(&[0, 0, 0, 2, kind, 0]).await.expect("written");
            assert_eq!(message(&mut client).await.expect("an answer")[4], answer, "{kind}");
        }
        let mut hostile = UnixStream::connect(forward.path()).await.expect("a client");
        hostile.write_all(&[255; 8]).await.expect("written");
        assert!(message(&mut hostile).await.is_err(), "what is too long is not waited for");
        drop(client);
        assert_eq!(seen.await.expect("no panic"), [LIST, SIGN]);
        let socket = forward.path();
        drop(forward);
        assert!(!socket.exists());
        assert!(Forward::new(&socket).await.is_err_and(|error| error.hint_text().is_some()));
    }
}
