//! Which files are serial ports that somebody configured, and who has one of them open.
//!
//! Names are looked up anew each time: the kernel gives them out in the order of plugging. Nothing is opened here.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::config::{PortPattern, PortSource, UsbId};

/// Ports of one table of the configuration.
const MAX_PORTS: usize = 64;

/// Where the kernel shows devices.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    /// Their files, `/dev`.
    pub(super) dev: PathBuf,
    /// What they are, `/sys`.
    pub(super) sys: PathBuf,
}

/// Ports of one table.
#[derive(Debug)]
pub(super) struct Found {
    /// The first ones by name, at most [`MAX_PORTS`].
    pub(super) ports: Vec<PathBuf>,
    /// How many more match.
    pub(super) too_many: usize,
}

/// Ports that are served, so that none is by two tables of the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct InUse {
    ports: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// A port that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    in_use: InUse,
    port: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { dev: "/dev".into(), sys: "/sys".into() }
    }
}

impl Roots {
    /// The ports that are there. One that is configured by its path counts as there.
    pub(super) fn find(&self, source: &PortSource) -> io::Result<Found> {
        let mut ports = match source {
            PortSource::Path(path) => vec![path.clone()],
            PortSource::Pattern(pattern) => matching(pattern)?,
            PortSource::Usb(id) => self.usb_ports(id)?,
        };
        ports.sort();
        let too_many = ports.len().saturating_sub(MAX_PORTS);
        ports.truncate(MAX_PORTS);
        Ok(Found { ports, too_many })
    }

    fn usb_ports(&self, id: &UsbId) -> io::Result<Vec<PathBuf>> {
        let folder = self.sys.join("class/tty");
        let names = names(&folder)?.into_iter();
        let is_it = |name: &String| is_of(&folder.join(name).join("device"), id);
        Ok(names.filter(is_it).map(|name| self.dev.join(name)).collect())
    }
}

impl InUse {
    /// Takes a port, whatever its name; none if it is taken.
    pub(super) fn reserve(&self, path: &Path) -> Option<Reserved> {
        let port = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let is_free = self.ports().insert(port.clone());
        is_free.then(|| Reserved { in_use: self.clone(), port })
    }

    fn ports(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.in_use.ports().remove(&self.port);
    }
}

/// Who has a file open, as far as we may see: processes of other users show it to root alone.
pub(super) fn holder(path: &Path) -> Option<String> {
    let port = fs::canonicalize(path).ok()?;
    let is_number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    names(Path::new("/proc")).ok()?.into_iter().filter(is_number).find_map(|id| {
        let process = Path::new("/proc").join(&id);
        let open = process.join("fd");
        let has_it = |fd: &String| fs::read_link(open.join(fd)).is_ok_and(|file| file == port);
        names(&open).ok()?.iter().any(has_it).then(|| {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            format!("{} (process {id})", name.trim_end())
        })
    })
}

fn matching(pattern: &PortPattern) -> io::Result<Vec<PathBuf>> {
    let names = names(pattern.folder())?.into_iter();
    let matching = names.filter(|name| pattern.matches(name));
    Ok(matching.map(|name| pattern.folder().join(name)).collect())
}

/// Files of a folder; none if it is not there, as /dev/serial before the first port. No port has a name that
/// is not UTF-8.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name().into_string().ok()))
            .filter_map(Result::transpose)
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether a device of sysfs is, or hangs on, that USB device. A terminal hangs on an interface, or on a port of
/// one; the first ancestor with an id is the device, those above are hubs.
fn is_of(device: &Path, id: &UsbId) -> bool {
    let Ok(device) = fs::canonicalize(device) else { return false };
    let Some(usb) = device.ancestors().find(|folder| folder.join("idVendor").exists()) else {
        return false;
    };
    let says = |name: &str| fs::read_to_string(usb.join(name)).unwrap_or_default();
    says("idVendor").trim().eq_ignore_ascii_case(&id.vendor)
        && says("idProduct").trim().eq_ignore_ascii_case(&id.product)
        && id.serial.as_ref().is_none_or(|serial| says("serial").trim() == serial.trim())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::SerialConfig;

    fn source(table: &str) -> PortSource {
        toml::from_str::<SerialConfig>(table).expect("legal").ports
    }

    /// A board as Linux shows it: a device with ids, an interface below, the terminal below that.
    fn plug(sys: &Path, bus: &str, ids: [&str; 3], tty: &str) {
        let usb = sys.join("devices/pci0/usb1").join(bus);
        let interface = usb.join(format!("{bus}:1.0"));
        let terminal = interface.join("tty").join(tty);
        fs::create_dir_all(&terminal).expect("made");
        for (name, value) in ["idVendor", "idProduct", "serial"].iter().zip(ids) {
            fs::write(usb.join(name), format!("{value}\n")).expect("written");
        }
        symlink(&interface, terminal.join("device")).expect("linked");
        let class = sys.join("class/tty");
        fs::create_dir_all(&class).expect("made");
        symlink(&terminal, class.join(tty)).expect("linked");
    }

    fn roots(folder: &Path) -> Roots {
        // The hub that all boards hang on has ids of its own.
        let hub = folder.join("sys/devices/pci0/usb1");
        fs::create_dir_all(&hub).expect("made");
        fs::write(hub.join("idVendor"), "1d6b\n").expect("written");
        fs::write(hub.join("idProduct"), "0002\n").expect("written");
        Roots { dev: folder.join("dev"), sys: folder.join("sys") }
    }

    #[test]
    fn usb_devices_are_found_by_what_they_say() {
        let folder = tempfile::tempdir().expect("a folder");
        let roots = roots(folder.path());
        let find = |table: &str| -> Vec<String> {
            let found = roots.find(&source(table)).expect("found").ports;
            found
                .iter()
                .map(|path| path.file_name().expect("a name").display().to_string())
                .collect()
        };
        assert_eq!(find("usb = { vendor = '2e8a', product = '000a' }"), [""; 0], "no sysfs at all");
        plug(&roots.sys, "1-2", ["2E8A", "000a", "E66"], "ttyACM1");
        plug(&roots.sys, "1-1", ["2e8a", "000a", "E67"], "ttyACM0");
        plug(&roots.sys, "1-3", ["0403", "6001", "A1"], "ttyUSB0");
        // A console has no device below it.
        fs::create_dir_all(roots.sys.join("class/tty/tty0")).expect("made");
        for (table, names) in [
            ("usb = { vendor = '2e8a', product = '000a' }", &["ttyACM0", "ttyACM1"][..]),
            ("usb = { vendor = '2e8a', product = '000a', serial = 'E66' }", &["ttyACM1"]),
            ("usb = { vendor = '2e8a', product = '000a', serial = 'E6' }", &[]),
            ("usb = { vendor = '0403', product = '6001' }", &["ttyUSB0"]),
            ("usb = { vendor = '0403', product = '000a' }", &[]),
            ("usb = { vendor = '1d6b', product = '0002' }", &[]),
        ] {
            assert_eq!(find(table), names, "{table}");
        }
        // Unplugged, and back under another name.
        fs::remove_file(roots.sys.join("class/tty/ttyACM1")).expect("removed");
        plug(&roots.sys, "1-4", ["2e8a", "000a", "E66"], "ttyACM7");
        let serial = "usb = { vendor = '2e8a', product = '000a', serial = 'E66' }";
        assert_eq!(find(serial), ["ttyACM7"]);
    }

    #[test]
    fn files_of_a_form_are_found_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let roots = roots(folder.path());
        let pattern = source(&format!("ports = '{}/ttyACM*'", roots.dev.display()));
        assert!(roots.find(&pattern).expect("no folder yet").ports.is_empty());
        fs::create_dir_all(&roots.dev).expect("made");
        for name in ["ttyACM1", "ttyACM0", "ttyUSB0"] {
            fs::write(roots.dev.join(name), "").expect("written");
        }
        let found = roots.find(&pattern).expect("found").ports;
        assert_eq!(found, [roots.dev.join("ttyACM0"), roots.dev.join("ttyACM1")]);
    }

    #[test]
    fn more_ports_than_anybody_has_are_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        for number in 0..MAX_PORTS + 3 {
            fs::write(folder.path().join(format!("ttyACM{number:03}")), "").expect("written");
        }
        let pattern = source(&format!("ports = '{}/tty*'", folder.path().display()));
        let found = Roots::default().find(&pattern).expect("found");
        assert_eq!((found.ports.len(), found.too_many), (MAX_PORTS, 3));
        assert_eq!(found.ports[MAX_PORTS - 1], folder.path().join("ttyACM063"));
    }

    #[test]
    fn a_port_is_reserved_once_under_all_its_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let (port, link) = (folder.path().join("ttyACM0"), folder.path().join("by-id"));
        fs::write(&port, "").expect("written");
        symlink(&port, &link).expect("linked");
        let in_use = InUse::default();
        let reserved = in_use.reserve(&link).expect("free");
        assert!(in_use.reserve(&port).is_none());
        drop(reserved);
        assert!(in_use.reserve(&port).is_some());
    }

    #[test]
    fn whoever_has_a_file_open_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("port");
        let file = fs::File::create(&path).expect("made");
        let holder_is_us =
            || holder(&path).map(|who| who.contains(&std::process::id().to_string()));
        assert_eq!(holder_is_us(), Some(true));
        drop(file);
        assert_eq!(holder_is_us(), None);
    }
}
