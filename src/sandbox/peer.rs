//! Finds the process at the other end of a loopback connection through `/proc`, for the kill rules.
//!
//! `OPERATION=kill` kills the caller with SIGKILL while it waits for a response, of which no byte is sent. With
//! `phase=before` the request has had no effect, with `phase=after` it has. `kill-during` first sends the head and half
//! of the body. The connection then stays open until the kernel closes the dead process's end, so the caller never sees
//! more than that. Linux only: on other systems such a rule is refused at start.

use std::net::SocketAddr;

/// Whether this system can tell which process owns a socket.
pub(super) const CAN_FIND: bool = cfg!(target_os = "linux");

/// Kills the process at the other end of the connection with SIGKILL, but never this process.
///
/// # Errors
///
/// The reason no process was killed.
#[cfg(target_os = "linux")]
pub(super) fn kill(local: SocketAddr, peer: SocketAddr) -> Result<(), String> {
    use rustix::process::{Pid, Signal, kill_process};

    let holders = find(local, peer).map_err(|failure| failure.to_string())?;
    if holders.is_empty() {
        return Err(format!("no process of this user holds {peer}"));
    }
    if holders.contains(&std::process::id()) {
        return Err(format!("{peer} belongs to the sandbox's own process"));
    }
    for holder in holders {
        let process = i32::try_from(holder).ok().and_then(Pid::from_raw);
        if let Some(process) = process {
            kill_process(process, Signal::KILL).map_err(|failure| failure.to_string())?;
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn kill(_local: SocketAddr, _peer: SocketAddr) -> Result<(), String> {
    Err("the calling process can only be found on Linux".to_owned())
}

/// Returns the ids of the processes that have the other end open.
#[cfg(target_os = "linux")]
fn find(local: SocketAddr, peer: SocketAddr) -> std::io::Result<Vec<u32>> {
    let mut inode = None;
    // A dual-stack client socket is listed in the second table.
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let Ok(text) = std::fs::read_to_string(table) else {
            continue;
        };
        inode = inode.or_else(|| inode_of(&text, peer, local));
    }
    let Some(inode) = inode else {
        return Ok(Vec::new());
    };
    let wanted = format!("socket:[{inode}]");
    let mut holders = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // The process has exited or belongs to another user.
        let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else {
            continue;
        };
        let holds = files
            .flatten()
            .any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()));
        if holds {
            holders.push(process);
        }
    }
    Ok(holders)
}

/// Returns the inode of the socket from `from` to `to` in the text of `/proc/net/tcp` or `tcp6`.
#[cfg(target_os = "linux")]
fn inode_of(table: &str, from: SocketAddr, to: SocketAddr) -> Option<u64> {
    let (from, to) = (written(from)?, written(to)?);
    table.lines().skip(1).find_map(|line| {
        // sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
        let fields: Vec<&str> = line.split_whitespace().collect();
        // An address in `tcp6` ends with the IPv4 address it maps.
        let same = fields.get(1)?.ends_with(&from) && fields.get(2)?.ends_with(&to);
        if same { fields.get(9)?.parse().ok() } else { None }
    })
}

/// Formats an address as the kernel prints it: one number in native byte order, then the port.
#[cfg(target_os = "linux")]
fn written(address: SocketAddr) -> Option<String> {
    match address {
        SocketAddr::V4(address) => {
            Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
        }
        SocketAddr::V6(_) => None,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{find, kill};

    #[test]
    fn the_other_end_is_found_and_the_sandbox_never_kills_itself() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("works");
        let local = listener.local_addr().expect("works");
        let client = std::net::TcpStream::connect(local).expect("works");
        let (_server, peer) = listener.accept().expect("works");
        assert_eq!(client.local_addr().expect("works"), peer);
        assert_eq!(find(local, peer).expect("works"), [std::process::id()]);
        let refused = kill(local, peer).expect_err("refused");
        assert!(refused.contains("own process"), "{refused}");
        drop(client);
    }
}
