//! The trait every xlator implements.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cx::Cx;
use crate::error::{Errno, FopResult};
use crate::fops::FopKind;
pub use crate::fops::Xlator;
use crate::options::{OptionError, OptionMap};
use crate::xdata::Xdata;

/// A future on the heap, as `async_trait` makes them.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What an xlator does with the fops it does not change.
///
/// Filters answer [`Route::Through`], leaves and cluster xlators [`Route::Stop`]: the default is a decision,
/// never an accident.
#[derive(Clone, Copy)]
pub enum Route<'a> {
    /// The child does it. The child's own future is handed on: no box, no poll frame, 2 to 6 ns.
    Through(&'a dyn Xlator),
    /// It is refused.
    Stop(Errno),
}

/// One fop as a type, with its request and reply: see [`fop`](crate::fops::fop).
pub trait FopType: 'static {
    /// What is asked.
    type Request: Serialize + DeserializeOwned + Send + Sync + std::fmt::Debug + 'static;
    /// What is answered.
    type Reply: Serialize + DeserializeOwned + Send + Sync + std::fmt::Debug + 'static;
    /// Its number and name.
    const KIND: FopKind;

    /// Does this fop on `xlator`.
    fn call<'a>(
        xlator: &'a dyn Xlator,
        cx: &'a Cx,
        request: &'a Self::Request,
    ) -> BoxFuture<'a, FopResult<Self::Reply>>;

    /// What travels beside `reply`.
    fn reply_xdata(reply: &mut Self::Reply) -> &mut Xdata;
}

/// One body around every fop, for xlators that treat them all alike (io-stats, trace, error-gen, quiesce).
///
/// ```
/// # use brickwork_api::*;
/// # use std::sync::Arc;
/// struct Quiet(Arc<dyn Xlator>);
///
/// #[async_trait]
/// impl Xlator for Quiet {
///     fn route(&self) -> Route<'_> { Route::Through(&*self.0) }
///     each_fop!();
/// }
///
/// impl Each for Quiet {
///     fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>> {
///         Box::pin(async move {
///             let reply = F::call(&*self.0, cx, request).await;
///             reply.map_err(|error| FopError::new(error.errno()))
///         })
///     }
/// }
/// ```
pub trait Each: Xlator {
    /// Does one fop of any kind.
    fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>>;
}

/// What travels up a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A child can serve.
    ChildUp,
    /// A child cannot serve, and why.
    ChildDown {
        /// For people: what happened, where.
        reason: String,
    },
    /// What front-ends keep of an object is old: its content and attributes.
    Invalidate {
        /// The object.
        gfid: crate::Gfid,
        /// Also what is kept of the names in it, those that do not exist among them: a directory's names changed.
        names: bool,
        /// Kept until whatever was kept of it is dropped.
        hold: Hold,
    },
    /// Everything that front-ends keep may be old: nobody would have told them.
    InvalidateAll {
        /// Kept until whatever was kept is dropped.
        hold: Hold,
    },
    /// Something about locks that one client has to know; see [`locks`](crate::locks).
    Lock(crate::locks::ClientNotice),
}

/// Keeps the sender of an event waiting for those who act on it: it goes on when the last clone is dropped.
///
/// Whoever finishes its part later (on another thread, say) keeps a clone until then; all others just drop it.
#[derive(Clone, Default)]
pub struct Hold {
    _last: Option<Arc<Release>>,
}

struct Release(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(release) = self.0.take() {
            release();
        }
    }
}

impl Hold {
    /// Calls `release` when the last clone is dropped, on that thread. The default calls nobody.
    pub fn new(release: impl FnOnce() + Send + Sync + 'static) -> Hold {
        Hold { _last: Some(Arc::new(Release(Some(Box::new(release))))) }
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

impl PartialEq for Hold {
    /// Two events say the same whoever waits for them.
    fn eq(&self, _other: &Hold) -> bool {
        true
    }
}

impl Eq for Hold {}

/// What becomes of an event that reached an xlator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// The parents get it too.
    Up,
    /// It ends here.
    Stop,
}

/// How an xlator speaks upward: to its parents, and at the top to the front-end.
#[derive(Clone)]
pub struct Upward(Arc<dyn Fn(Event) + Send + Sync>);

impl Upward {
    /// Events go to `receive`.
    pub fn new(receive: impl Fn(Event) + Send + Sync + 'static) -> Upward {
        Upward(Arc::new(receive))
    }

    /// Sends `event` to all parents. Must not be called with a mutex held that a parent may want.
    pub fn notify(&self, event: Event) {
        (self.0)(event);
    }
}

impl std::fmt::Debug for Upward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upward")
    }
}

/// Expands, from the fop table, to the trait, its forwarding through `Arc`, and `each_fop!`.
macro_rules! define_xlator {
    ($($(#[doc = $doc:literal])* $name:ident $kind:ident $request:ident $reply:ident;)*) => {
        /// A translator: one layer of a graph.
        ///
        /// Implementors write `#[async_trait]` methods for just the fops they change; all others follow
        /// [`route`](Xlator::route).
        ///
        /// ```
        /// # use brickwork_api::*;
        /// # use std::sync::Arc;
        /// struct ReadOnly { child: Arc<dyn Xlator> }
        ///
        /// #[async_trait]
        /// impl Xlator for ReadOnly {
        ///     fn route(&self) -> Route<'_> { Route::Through(&*self.child) }
        ///     async fn write(&self, _cx: &Cx, _req: &WriteReq) -> FopResult<WriteReply> { Err(Errno::EROFS.into()) }
        /// }
        /// ```
        pub trait Xlator: Send + Sync {
            /// What happens to every fop that is not implemented here.
            fn route(&self) -> crate::Route<'_>;

            /// Begins to serve: tasks and threads start here, never in the constructor.
            ///
            /// # Errors
            /// A sentence for people: what, where, why. The graph is then not started.
            fn start(&self) -> Result<(), String> {
                Ok(())
            }

            /// Takes new values of the options that can change in place.
            ///
            /// # Errors
            /// Every value that was refused; then nothing has changed.
            fn reconfigure(&self, _options: &crate::options::OptionMap) -> Result<(), Vec<crate::options::OptionError>> {
                Ok(())
            }

            /// Ends what `start` began. No fop is inside any more.
            fn stop<'life0, 'async_trait>(&'life0 self) -> crate::BoxFuture<'async_trait, ()>
            where
                'life0: 'async_trait,
                Self: 'async_trait,
            {
                Box::pin(std::future::ready(()))
            }

            /// Hears an event of a child.
            fn notify(&self, _event: &crate::Event) -> crate::Onward {
                crate::Onward::Up
            }

            /// What is known of this xlator at the moment, for `status`, `graph show` and `dump`.
            fn status(&self) -> serde_json::Value {
                serde_json::Value::Null
            }

            $(
                $(#[doc = $doc])*
                fn $name<'life0, 'life1, 'life2, 'async_trait>(
                    &'life0 self,
                    cx: &'life1 crate::Cx,
                    request: &'life2 $request,
                ) -> ::core::pin::Pin<Box<dyn ::core::future::Future<Output = crate::FopResult<$reply>> + ::core::marker::Send + 'async_trait>>
                where
                    'life0: 'async_trait,
                    'life1: 'async_trait,
                    'life2: 'async_trait,
                    Self: 'async_trait,
                {
                    match self.route() {
                        crate::Route::Through(child) => child.$name(cx, request),
                        crate::Route::Stop(errno) => Box::pin(std::future::ready(Err(errno.into()))),
                    }
                }
            )*
        }

        /// Implements every fop of an `impl Xlator` by the one body of [`Each`](crate::Each).
        #[macro_export]
        macro_rules! each_fop {
            () => {
                $(
                    fn $name<'life0, 'life1, 'life2, 'async_trait>(
                        &'life0 self,
                        cx: &'life1 $crate::Cx,
                        request: &'life2 $crate::$request,
                    ) -> $crate::BoxFuture<'async_trait, $crate::FopResult<$crate::$reply>>
                    where
                        'life0: 'async_trait,
                        'life1: 'async_trait,
                        'life2: 'async_trait,
                        Self: 'async_trait,
                    {
                        $crate::Each::each::<$crate::fop::$kind>(self, cx, request)
                    }
                )*
            };
        }
    };
}
pub(crate) use define_xlator;

/// How many subvolumes a type takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// None: a leaf.
    Leaf,
    /// Exactly one: a filter.
    One,
    /// One or more: a cluster, or a server of several.
    Some,
}

impl Arity {
    /// Whether `count` subvolumes fit.
    #[must_use]
    pub const fn admits(self, count: usize) -> bool {
        match self {
            Arity::Leaf => count == 0,
            Arity::One => count == 1,
            Arity::Some => count >= 1,
        }
    }

    /// In words, as in "takes exactly 1 subvolume".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Arity::Leaf => "no subvolumes",
            Arity::One => "exactly 1 subvolume",
            Arity::Some => "at least 1 subvolume",
        }
    }
}

/// What an instance of an xlator is made from.
#[derive(Debug)]
pub struct Setup {
    /// The volume's name in the volfile.
    pub name: Arc<str>,
    /// Its options, as checked against the type's table.
    pub options: OptionMap,
    /// Its subvolumes, in the order of the volfile.
    pub children: Vec<Arc<dyn Xlator>>,
    /// The names of its subvolumes, in the same order: for what is known by them, as what a server exports.
    pub subvolumes: Vec<Arc<str>>,
    /// How it speaks upward.
    pub up: Upward,
    /// What the process lends.
    pub host: Arc<dyn crate::Host>,
}

impl Setup {
    /// The only child of a filter.
    ///
    /// # Panics
    /// If there is not exactly one: the arity of the type was checked before.
    #[must_use]
    pub fn only_child(&mut self) -> Arc<dyn Xlator> {
        assert_eq!(self.children.len(), 1, "`{}` is a filter", self.name);
        self.children.remove(0)
    }
}

impl std::fmt::Debug for dyn Xlator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dyn Xlator")
    }
}

/// A type of xlator: what a volfile's `type` names.
#[derive(Clone, Copy, Debug)]
pub struct XlatorType {
    /// As in a volfile: `features/locks`.
    pub name: &'static str,
    /// One line for people: what it changes.
    pub about: &'static str,
    /// Its options.
    pub options: &'static [crate::options::OptionSpec],
    /// How many subvolumes it takes.
    pub subvolumes: Arity,
    /// Makes an instance: opens and validates, spawns nothing. The error is a sentence for people.
    pub prepare: fn(Setup) -> Result<Arc<dyn Xlator>, SetupError>,
}

/// Why an xlator could not be made or its options were refused.
#[derive(Debug, PartialEq, Eq)]
pub enum SetupError {
    /// Values of options.
    Options(Vec<OptionError>),
    /// Anything else: a sentence for people, what, where, why, without the volume's name.
    Failed(String),
}

impl From<Vec<OptionError>> for SetupError {
    fn from(errors: Vec<OptionError>) -> SetupError {
        SetupError::Options(errors)
    }
}

impl std::fmt::Display for SetupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SetupError::Failed(reason) => f.write_str(reason),
            SetupError::Options(errors) => {
                let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join("; "))
            }
        }
    }
}

impl std::error::Error for SetupError {}
