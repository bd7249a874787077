//! What is there: the questions about a brick that intents and probes ask, as root.

use std::sync::Arc;

use brickwork_api::{
    Attr, Bytes, ClientId, Cx, Entry, Errno, FopResult, GetxattrReq, Gfid, Host, Locate, LookupReq, StatReq, Target,
    XattrName, Xdata, Xlator,
};

/// Who looks, and where.
pub struct Look<'c> {
    child: &'c dyn Xlator,
    cx: Cx,
}

impl<'c> Look<'c> {
    /// Looks at `child` through the opens of `client`.
    #[must_use]
    pub fn at(child: &'c dyn Xlator, client: ClientId, host: &Arc<dyn Host>) -> Look<'c> {
        Look { child, cx: Cx::internal(client, host.clone()) }
    }

    /// Where it looks.
    #[must_use]
    pub fn child(&self) -> &'c dyn Xlator {
        self.child
    }

    /// As whom.
    #[must_use]
    pub fn cx(&self) -> &Cx {
        &self.cx
    }

    /// What a name points to.
    ///
    /// # Errors
    /// Those of `lookup` other than `ENOENT`.
    pub async fn name(&self, entry: &Entry) -> FopResult<Option<Gfid>> {
        let found = self.lookup(Locate::Entry(entry.clone())).await;
        absent(found, &[Errno::ENOENT]).map(|found| found.map(|attr| attr.gfid))
    }

    /// As [`Look::name`], when the directory may be gone too.
    ///
    /// # Errors
    /// Other than that.
    pub async fn name_anywhere(&self, entry: &Entry) -> FopResult<Option<Gfid>> {
        let found = self.name(entry).await;
        absent(found, &[Errno::ESTALE, Errno::ENOTDIR, Errno::ENOENT]).map(Option::flatten)
    }

    /// The attributes of an object that has a name.
    ///
    /// # Errors
    /// Those of `lookup`.
    pub async fn object(&self, gfid: Gfid) -> FopResult<Attr> {
        self.lookup(Locate::Gfid(gfid)).await
    }

    /// The attributes of an object, through an open of it if there is one.
    ///
    /// # Errors
    /// Those of `stat`.
    pub async fn stat(&self, target: Target) -> FopResult<Attr> {
        let request = StatReq { target, xdata: Xdata::EMPTY };
        self.child.stat(&self.cx, &request).await.map(|reply| reply.attr)
    }

    /// The attributes of an object; `None` when it is gone.
    ///
    /// # Errors
    /// Those of `stat`, other than that it is gone.
    pub async fn stat_if_there(&self, gfid: Gfid) -> FopResult<Option<Attr>> {
        absent(self.stat(gfid.into()).await, &[Errno::ESTALE, Errno::ENOENT])
    }

    /// The value of an xattr; `None` when it is missing, or hidden, or its object is gone.
    ///
    /// # Errors
    /// Those of `getxattr` other than that.
    pub async fn xattr(&self, target: Target, name: &XattrName) -> FopResult<Option<Bytes>> {
        let request = GetxattrReq { target, name: name.clone(), xdata: Xdata::EMPTY };
        let value = self.child.getxattr(&self.cx, &request).await.map(|reply| reply.value);
        absent(value, &[Errno::ENODATA, Errno::EOPNOTSUPP, Errno::ESTALE, Errno::ENOENT])
    }

    async fn lookup(&self, target: Locate) -> FopResult<Attr> {
        let request = LookupReq { target, xdata: Xdata::EMPTY };
        self.child.lookup(&self.cx, &request).await.map(|reply| reply.attr)
    }
}

/// `None` in place of an error that says that there is nothing.
fn absent<T>(result: FopResult<T>, nothing: &[Errno]) -> FopResult<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if nothing.contains(&error.errno()) => Ok(None),
        Err(error) => Err(error),
    }
}
