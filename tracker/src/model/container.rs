//! Which container and which Kubernetes pod a process is in, by the path of its cgroup.
//!
//! Runtimes and kubelets name cgroups in few ways, the same on cgroup v1 and v2; the tests have one
//! of each. A path may begin with `..`: an agent in a cgroup namespace of its own sees others so.

/// How long the id of a container is: SHA-256 in hexadecimal, with every runtime.
const ID_LENGTH: usize = 64;

/// What monitors a container calls its own cgroup by; it is not in the container.
const MONITOR: &str = "conmon";

/// What a path says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerPath<'a> {
    /// Id of the innermost container.
    pub container_id: Option<&'a str>,
    /// Uid of the innermost pod, as the path has it: systemd's slices have `_` for `-`.
    pod: Option<&'a str>,
}

impl<'a> ContainerPath<'a> {
    /// Reads `cgroup`, a path of `/proc/PID/cgroup`.
    pub fn of(cgroup: &'a [u8]) -> Self {
        let mut found = Self::default();
        for part in cgroup.rsplit(|&byte| byte == b'/') {
            let Ok(part) = str::from_utf8(part) else {
                continue;
            };
            found.pod = pod(part);
            if found.container_id.is_none() {
                found.container_id = container(part);
            }
            if found.pod.is_some() {
                break;
            }
        }
        found
    }

    /// Uid of the pod, as Kubernetes writes it. Of a static pod it is a hash of 32 digits.
    pub fn pod_uid(&self) -> Option<String> {
        self.pod.map(|uid| uid.replace('_', "-"))
    }
}

/// The id in `ID`, `RUNTIME-ID.scope` or `SLICE:RUNTIME:ID`.
fn container(part: &str) -> Option<&str> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let at = name.len().checked_sub(ID_LENGTH)?;
    let (before, id) = (name.get(..at)?, name.get(at..)?);
    let runtime = before.strip_suffix(['-', ':']);
    let is_named = before.is_empty() || runtime.is_some_and(|name| !name.ends_with(MONITOR));
    (is_named && is_hex(id)).then_some(id)
}

/// The uid in `podUID`, `kubepods-QOS-podUID.slice` or `kubepods-QOS-podUID.slice:RUNTIME:ID`.
fn pod(part: &str) -> Option<&str> {
    let slice = part.split(':').next()?;
    let uid = match slice.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1,
        None => slice.strip_prefix("pod")?,
    };
    is_uid(uid).then_some(uid)
}

fn is_hex(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.bytes().all(is_digit)
}

/// Whether this is a UUID, with `-` or `_`, or its digits alone.
fn is_uid(text: &str) -> bool {
    let groups: Vec<_> = text.split(['-', '_']).collect();
    let lengths: Vec<_> = groups.iter().map(|group| group.len()).collect();
    matches!(lengths[..], [32] | [8, 4, 4, 4, 12]) && groups.iter().all(|group| is_hex(group))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "8f6a2f5b1d0c3e4f5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3";
    const UID: &str = "cd74aaac-84f1-4c71-a6e5-0b1b8f1c7a5e";
    /// As systemd's slices have it.
    const SLICED: &str = "cd74aaac_84f1_4c71_a6e5_0b1b8f1c7a5e";

    fn read(path: &str) -> (Option<String>, Option<String>) {
        let path = path
            .replace("SLICED", SLICED)
            .replace("UID", UID)
            .replace("ID", ID);
        let found = ContainerPath::of(path.as_bytes());
        (found.container_id.map(str::to_owned), found.pod_uid())
    }

    #[track_caller]
    fn assert_read(path: &str, container: bool, pod: bool) {
        let expected = (
            container.then(|| ID.to_owned()),
            pod.then(|| UID.to_owned()),
        );
        assert_eq!(read(path), expected, "{path}");
    }

    #[test]
    fn containers_of_pods_are_read() {
        for path in [
            // cgroupfs driver, each class of service.
            "/kubepods/podUID/ID",
            "/kubepods/burstable/podUID/ID",
            "/kubepods/besteffort/podUID/ID",
            // systemd driver: containerd, CRI-O, docker.
            "/kubepods.slice/kubepods-podSLICED.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSLICED.slice/crio-ID.scope",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podSLICED.slice/docker-ID.scope",
            // CRI-O with crun, and a container that makes cgroups of its own.
            "/kubepods.slice/kubepods-podSLICED.slice/crio-ID.scope/container",
            "/kubepods.slice/kubepods-podSLICED.slice/cri-containerd-ID.scope/init.scope",
            // containerd by cgroupfs below a kubelet by systemd.
            "/system.slice/containerd.service/kubepods-burstable-podSLICED.slice:cri-containerd:ID",
            // kind: a kubelet in a container, whose own id is not meant.
            "/docker/0000000000000000000000000000000000000000000000000000000000000000/kubelet/kubepods/besteffort/podUID/ID",
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podSLICED.slice/cri-containerd-ID.scope",
            // An agent in a cgroup namespace of its own.
            "/../../../kubepods-burstable.slice/kubepods-burstable-podSLICED.slice/cri-containerd-ID.scope",
            "/../../burstable/podUID/ID",
        ] {
            assert_read(path, true, true);
        }
    }

    #[test]
    fn containers_without_a_pod_are_read() {
        for path in [
            "/docker/ID",
            "/system.slice/docker-ID.scope",
            "/machine.slice/libpod-ID.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            // Beside the agent, in its own pod.
            "/../cri-containerd-ID.scope",
        ] {
            assert_read(path, true, false);
        }
    }

    #[test]
    fn a_static_pod_has_a_hash() {
        let hash = "0d5a4e8ee0a2a3f8b1b2c3d4e5f60718";
        let path = format!("/kubepods/burstable/pod{hash}/{ID}");
        let found = ContainerPath::of(path.as_bytes());
        assert_eq!(found.pod_uid().as_deref(), Some(hash));
        assert_eq!(found.container_id, Some(ID));
    }

    #[test]
    fn what_is_in_no_container_is_told_apart() {
        for path in [
            "",
            "/",
            "/init.scope",
            "/system.slice/redis.service",
            "/user.slice/user-1000.slice/session-3.scope",
            // Beside containers: what watches them, and kubelet.
            "/machine.slice/libpod-conmon-ID.scope",
            "/system.slice/kubelet.service",
            // Not the length, not the digits, not a separator.
            "/docker/8f6a2f5b1d0c",
            "/docker/IDa",
            "/docker/8F6A2F5B1D0C3E4F5A69788796A5B4C3D2E1F00F1E2D3C4B5A69788796A5B4C3",
            "/docker/xID",
            "/kubepods/podcast/x",
        ] {
            assert_read(path, false, false);
        }
        let monitor = "/kubepods.slice/kubepods-podSLICED.slice/crio-conmon-ID.scope";
        assert_read(monitor, false, true);
    }

    proptest! {
        #[test]
        fn any_path_is_read_or_not(path: Vec<u8>) {
            let found = ContainerPath::of(&path);
            prop_assert!(found.container_id.is_none_or(|id| id.len() == ID_LENGTH));
        }
    }
}
