//! An order under way (RFC 8555 §7.4): the key that its certificate will be for, and how far it came. The
//! key is on disk before the authority hears of the order, so whatever answer is lost, a certificate that
//! was issued can be used.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::acme::{CERTIFICATES, PLANS, read_anyway, whole_json};
use super::pair::{Gate, KEY};
use super::{AcmeStore, Dir, Error, io_error, sync_dir};

const ORDERS: &str = "orders";
const ORDER: &str = "order.json";

/// An order as it was kept.
#[derive(Clone, PartialEq, Eq)]
pub struct SavedOrder {
    /// The private key in PEM; wiped when dropped.
    pub key: Zeroizing<String>,
    /// What is known of the order: JSON, as it was given.
    pub json: Vec<u8>,
}

impl fmt::Debug for SavedOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("SavedOrder")
            .field("json", &String::from_utf8_lossy(&self.json))
            .finish_non_exhaustive()
    }
}

impl AcmeStore {
    /// The order under way for a slot, or `None`. A key alone, left by a process that was killed before
    /// it could send the order, is none.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it cannot be taken up again: [`Self::set_order_aside`] makes room.
    /// [`Error::Io`] when it cannot be read now.
    pub fn order(&self, slot: &str) -> Result<Option<SavedOrder>, Error> {
        let home = self.place(ORDERS, slot)?;
        let path = home.join(ORDER);
        let Some(json) = read_anyway(&path)? else { return Ok(None) };
        whole_json(&path, &json)?;
        let path = home.join(KEY);
        let damaged = |what| Error::Damaged { path: path.clone(), what };
        let key = read_anyway(&path)?.ok_or_else(|| damaged("the order's key is not there"))?;
        let key = String::from_utf8(key).map(Zeroizing::new).map_err(|_| damaged("not text"))?;
        let whole = key.contains("-----BEGIN") && key.trim_end().ends_with("PRIVATE KEY-----");
        if whole { Ok(Some(SavedOrder { key, json })) } else { Err(damaged("not a private key in PEM")) }
    }

    /// Begins an order: keeps its key (PEM), then what is known of it (JSON). An order that was there
    /// before is gone then. When this returns both are on disk, so the order may be sent.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Io`]; then there is the order before this one, or none.
    pub fn save_order(&self, slot: &str, key: &str, json: &[u8]) -> Result<(), Error> {
        begin(&self.home(ORDERS, slot)?, key, json, &mut |_| Ok(()))
    }

    /// Replaces what is known of the order under way; its key stays.
    ///
    /// # Errors
    /// [`Error::Damaged`] when there is no key, so no order; [`Error::ReadOnly`], [`Error::Io`]: then the
    /// old knowledge stands.
    pub fn update_order(&self, slot: &str, json: &[u8]) -> Result<(), Error> {
        let home = self.home(ORDERS, slot)?;
        let key = home.path.join(KEY);
        if !key.is_file() {
            return Err(Error::Damaged { path: key, what: "the order's key is not there" });
        }
        home.replace(ORDER, json)
    }

    /// Forgets the order under way: its certificate is kept, or it came to nothing.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Io`].
    pub fn drop_order(&self, slot: &str) -> Result<(), Error> {
        self.may_write()?;
        let home = self.place(ORDERS, slot)?;
        if fs::symlink_metadata(&home).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Ok(());
        }
        // The knowledge first: without it a key is no order.
        remove(&home.join(ORDER))?;
        sync_dir(&home)?;
        remove(&home.join(KEY))?;
        sync_dir(&home)?;
        let _ = fs::remove_dir(&home);
        Ok(())
    }

    /// Forgets all of a slot: certificates, order and plan. For names on demand, of which there would
    /// otherwise be more and more. What a kill in the middle leaves is no certificate any more.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Io`].
    pub fn forget(&self, slot: &str) -> Result<(), Error> {
        self.drop_order(slot)?;
        for folder in [PLANS, ORDERS, CERTIFICATES] {
            let home = self.place(folder, slot)?;
            match fs::remove_dir_all(&home) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(io_error("remove", &home, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves an order that cannot be taken up again to `corrupt/`; where it is then, or `None` if there
    /// is none.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Io`].
    pub fn set_order_aside(&self, slot: &str) -> Result<Option<PathBuf>, Error> {
        self.quarantine(&self.place(ORDERS, slot)?, slot)
    }
}

/// The steps of beginning an order.
fn begin(home: &Dir, key: &str, json: &[u8], gate: Gate<'_>) -> Result<(), Error> {
    let mut step = |name: &'static str| gate(name).map_err(|error| io_error(name, &home.path, error));
    step("forget an order in")?;
    // Otherwise a kill between the next two steps would leave the old order with the new key.
    remove(&home.path.join(ORDER))?;
    sync_dir(&home.path)?;
    step("write a key in")?;
    home.replace(KEY, key.as_bytes())?;
    step("write an order in")?;
    home.replace(ORDER, json)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;
