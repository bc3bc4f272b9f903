//! Which worker the kernel gives a new connection to.

use std::net::TcpListener;
use std::path::Path;

use super::sys::prefer_incoming_cpu;
use super::worker::Protocol;

/// On a machine with several receive queues, a connection whose packets come on the CPU of a worker goes to
/// that worker. With one queue all of them would go to one.
pub(super) fn steer(listeners: &[(TcpListener, Protocol)], cpu: usize) {
    if several_receive_queues(Path::new("/sys/class/net")) {
        for (listener, _) in listeners {
            // A wish, not a need: kernels before 6.2 look at it only among sockets that are equal otherwise.
            let _ = prefer_incoming_cpu(listener, cpu);
        }
    }
}

/// Whether a network device other than loopback has more than one receive queue.
fn several_receive_queues(devices: &Path) -> bool {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    entries(devices).filter(|device| device.file_name() != "lo").any(|device| {
        let queues = entries(&device.path().join("queues"));
        queues.filter(|queue| queue.file_name().to_string_lossy().starts_with("rx-")).count() > 1
    })
}

#[cfg(test)]
mod tests {
    use super::several_receive_queues;

    #[test]
    fn only_a_card_with_several_receive_queues_has_several() {
        let root = std::env::temp_dir().join(format!("lockring-queues-{}", std::process::id()));
        let make = |path: &str| std::fs::create_dir_all(root.join(path)).unwrap();
        assert!(!several_receive_queues(&root), "no device at all");
        for path in ["lo/queues/rx-0", "lo/queues/rx-1", "eth0/queues/rx-0", "eth0/queues/tx-0"] {
            make(path);
        }
        assert!(!several_receive_queues(&root));
        make("eth0/queues/rx-1");
        assert!(several_receive_queues(&root));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
