//! The collector's signing key: in a file, or behind a program that signs (an HSM, a KMS, a TPM).
//!
//! Acks are many, so the program is started once and asked over its pipes: 32 bytes of SHA-256 in, 64 bytes of Ed25519
//! signature out, in order, until its input ends. It has a quarter of a second for each; one that is late or ends is
//! ended and started again, and the ack is left out: the next says the same and more.

use headwater_core::id::{KeyId, Sha256};
use headwater_core::wire::{SigningKey, VerifyingKey};
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest wait for one signature. Receiving waits with it, and the agents' resend timer is 5 s.
const PATIENCE: Duration = Duration::from_millis(250);
/// Longest wait for the first, which opens a session with the device behind it.
const PATIENCE_AT_START: Duration = Duration::from_secs(10);
/// Acks left out after a failure before the program is started again, so that receiving is not held up by each.
const SPARED: u32 = 50;

/// Signs acks.
#[derive(Debug)]
pub enum AckSigner {
    /// With a key in memory.
    Key(SigningKey),
    /// By a program.
    Command(SignCommand),
}

impl From<SigningKey> for AckSigner {
    fn from(key: SigningKey) -> Self {
        Self::Key(key)
    }
}

impl AckSigner {
    /// Which key it is.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        match self {
            Self::Key(key) => key.key_id(),
            Self::Command(command) => command.key.key_id(),
        }
    }

    /// The signature of a digest; `None` if the program does not give one now.
    #[must_use]
    pub fn sign(&self, digest: &Sha256) -> Option<[u8; 64]> {
        match self {
            Self::Key(key) => Some(key.sign(digest)),
            Self::Command(command) => command.sign(digest),
        }
    }
}

/// A program that signs.
#[derive(Debug)]
pub struct SignCommand {
    words: Vec<String>,
    key: VerifyingKey,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Running>,
    /// Signatures not asked for since the last failure.
    spared: u32,
}

#[derive(Debug)]
struct Running {
    child: Child,
    digests: SyncSender<[u8; 32]>,
    signatures: Receiver<io::Result<[u8; 64]>>,
}

impl SignCommand {
    /// Starts the program and has it sign once, to prove that its key is `key`.
    ///
    /// # Errors
    /// Why it cannot be used, for a person.
    pub fn start(words: &[String], key: VerifyingKey) -> Result<Self, String> {
        let mut running = Running::start(words).map_err(|error| error.to_string())?;
        let digest = Sha256::of(b"headwater sign_command");
        let signature = running.sign(&digest, PATIENCE_AT_START)?;
        key.verify(&digest, &signature)
            .map_err(|_| "its signature does not fit identity.sign_cert".to_owned())?;
        let state = Mutex::new(State { running: Some(running), spared: 0 });
        Ok(Self { words: words.to_vec(), key, state })
    }

    fn sign(&self, digest: &Sha256) -> Option<[u8; 64]> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.running.is_none() {
            state.spared = state.spared.saturating_add(1);
            if state.spared < SPARED {
                return None;
            }
            state.spared = 0;
            match Running::start(&self.words) {
                Ok(running) => state.running = Some(running),
                Err(error) => {
                    failed(&error.to_string());
                    return None;
                }
            }
        }
        let signed = state.running.as_mut()?.sign(digest, PATIENCE);
        let proven = signed.and_then(|signature| match self.key.verify(digest, &signature) {
            Ok(()) => Ok(signature),
            Err(_) => Err("a signature does not fit".to_owned()),
        });
        match proven {
            Ok(signature) => Some(signature),
            Err(why) => {
                failed(&why);
                // Its next answer would be to this question.
                state.running = None;
                None
            }
        }
    }
}

fn failed(why: &str) {
    crate::telemetry::signing_failed();
    tracing::error!(why, "identity.sign_command does not sign; acks are left out");
}

impl Running {
    fn start(words: &[String]) -> io::Result<Self> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut child =
            Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        };
        let (digests, to_sign) = sync_channel(1);
        let (signed, signatures) = sync_channel(1);
        // Pipes have no deadline: a thread waits on them, and ends with the program.
        std::thread::Builder::new()
            .name("sign_command".to_owned())
            .spawn(move || converse(stdin, stdout, &to_sign, &signed))?;
        Ok(Self { child, digests, signatures })
    }

    fn sign(&mut self, digest: &Sha256, patience: Duration) -> Result<[u8; 64], String> {
        self.digests.try_send(digest.0).map_err(|_| "it has ended, or does not read".to_owned())?;
        match self.signatures.recv_timeout(patience) {
            Ok(Ok(signature)) => Ok(signature),
            Ok(Err(error)) => Err(error.to_string()),
            Err(RecvTimeoutError::Timeout) => Err(format!("no signature within {} ms", patience.as_millis())),
            Err(RecvTimeoutError::Disconnected) => Err("it has ended".to_owned()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn converse(
    mut stdin: ChildStdin,
    mut stdout: ChildStdout,
    to_sign: &Receiver<[u8; 32]>,
    signed: &SyncSender<io::Result<[u8; 64]>>,
) {
    for digest in to_sign {
        let mut signature = [0; 64];
        let answer = stdin
            .write_all(&digest)
            .and_then(|()| stdin.flush())
            .and_then(|()| stdout.read_exact(&mut signature))
            .map(|()| signature);
        let over = answer.is_err();
        if signed.send(answer).is_err() || over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PKCS_ED25519};

    fn key() -> SigningKey {
        SigningKey::from_pkcs8(KeyPair::generate_for(&PKCS_ED25519).unwrap().serialized_der()).unwrap()
    }

    /// A shell that answers each digest with what was signed for it beforehand, or does as told.
    fn program(script: String) -> Vec<String> {
        ["sh", "-c", &script].map(str::to_owned).to_vec()
    }

    fn octal(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("\\{byte:03o}")).collect()
    }

    /// Takes a digest off its input, then prints `signature`.
    fn answering(signature: &[u8; 64]) -> String {
        format!("head -c 32 >/dev/null; printf '{}'; ", octal(signature))
    }

    #[test]
    fn a_program_signs_and_its_key_is_proven_at_the_start() {
        let (key, other) = (key(), key());
        let first = key.sign(&Sha256::of(b"headwater sign_command"));
        let digest = Sha256::of(b"an ack");
        let script = format!("{}{}cat >/dev/null", answering(&first), answering(&key.sign(&digest)));
        let signer = SignCommand::start(&program(script.clone()), key.verifying_key().unwrap()).unwrap();
        let signer = AckSigner::Command(signer);
        assert_eq!(signer.key_id(), key.key_id());
        assert_eq!(signer.sign(&digest), Some(key.sign(&digest)));
        let wrong = SignCommand::start(&program(script), other.verifying_key().unwrap()).unwrap_err();
        assert!(wrong.contains("sign_cert"), "{wrong}");
        let ended = SignCommand::start(&program("exit 3".into()), key.verifying_key().unwrap());
        assert!(ended.is_err());
        let none = SignCommand::start(&["/no/such/program".into()], key.verifying_key().unwrap());
        assert!(none.is_err());
    }

    #[test]
    fn a_program_that_hangs_or_lies_costs_acks_and_is_started_again() {
        let key = key();
        let first = key.sign(&Sha256::of(b"headwater sign_command"));
        let digest = Sha256::of(b"an ack");
        for then in ["cat >/dev/null".to_owned(), format!("{}cat >/dev/null", answering(&[7; 64]))] {
            let script = format!("{}{then}", answering(&first));
            let signer = SignCommand::start(&program(script), key.verifying_key().unwrap()).unwrap();
            assert_eq!(signer.sign(&digest), None);
            // Left out without waiting, until it is its turn again.
            for _ in 1..SPARED {
                assert_eq!(signer.sign(&digest), None);
                assert!(signer.state.lock().unwrap().running.is_none());
            }
            // The program starts over: it answers its first question.
            assert_eq!(signer.sign(&Sha256::of(b"headwater sign_command")), Some(first));
        }
    }
}
