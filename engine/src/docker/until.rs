//! How a server in a container is asked: by a process of its own there.

use super::Container;
use crate::until::{TryResult, judged};
use crate::{Exec, ServerTrial};

/// Connects to `$1`; says there what is in `$2`, if anything is, and tells the first line of the answer. What follows is
/// heard to its end, within bounds: some servers complain of whoever leaves early. One that answers without listening is heard, too.
const ASK: &str = r#"
exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
[ -n "$2" ] || exit 0
trap '' PIPE
printf %s "$2" >&3
IFS= read -r -t 4 -n 4096 line <&3
printf 'answer: %s\n' "$line"
IFS= read -r -t 1 -N 65536 rest <&3
exit 0"#;

impl Container {
    /// Asks once. The shell of the image is the only one that a container without a network has: it speaks TCP, if it is bash.
    pub(super) async fn ask(&self, until: ServerTrial<'_>) -> TryResult {
        let (port, request) = (until.port.to_string(), until.request());
        let cmd = ["/bin/bash", "-c", ASK, "ask", &port, request.as_deref().unwrap_or_default()].map(String::from);
        let (mut answer, mut last) = (None, String::new());
        let mut on_line = |line: &str| match line.strip_prefix("answer: ") {
            Some(line) => answer = Some(line.to_string()),
            None => last = line.to_string(),
        };
        let asked = self.command(&Exec { cmd: &cmd, ..Exec::default() }, false, &mut on_line).await;
        match asked {
            Err(error) => Err(std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")),
            Ok(126 | 127) => Err(format!("it cannot be asked on this engine: the image has no /bin/bash ({last})")),
            Ok(0) if request.is_none() => Ok(()),
            Ok(_) if request.is_none() => Err(last),
            Ok(_) if answer.is_none() && !last.is_empty() => Err(last),
            Ok(_) => judged(answer.unwrap_or_default().as_bytes()),
        }
    }
}
