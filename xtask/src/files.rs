//! Files that several runs of this program share: written whole or not at all, and by one at a time.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Context;

/// Writes a file unless it has these bytes already. A reader sees the old bytes or the new, never a part.
pub fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".part-{}", std::process::id()));
    let part = path.with_file_name(name);
    fs::write(&part, bytes).with_context(|| format!("cannot write {}", part.display()))?;
    fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Holds a folder for this program alone until it is dropped; others wait.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

impl Hold {
    /// Waits for the folder; makes it when there is none.
    pub fn on(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let path = folder.join(".lock");
        let file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_holds_a_folder_and_files_are_replaced_whole() {
        let folder = std::env::temp_dir().join(format!("xdv-files-{}", std::process::id()));
        let held = Hold::on(&folder).unwrap();
        assert!(
            File::open(folder.join(".lock"))
                .unwrap()
                .try_lock()
                .is_err()
        );
        drop(held);
        assert!(File::open(folder.join(".lock")).unwrap().try_lock().is_ok());
        let file = folder.join("a.b");
        for text in ["one", "two", "two"] {
            write_whole(&file, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::remove_dir_all(&folder).unwrap();
    }
}
