//! What one line of the table becomes: request, reply, number, name, marker, variants, and a method of the trait.

macro_rules! fops {
    ($d:tt $($(#[doc = $doc:literal])* fn $name:ident as $kind:ident
        (struct $request:ident { $($(#[$rattr:meta])* $rfield:ident: $rtype:ty,)* })
        -> struct $reply:ident { $($(#[$pattr:meta])* $pfield:ident: $ptype:ty,)* })*) => {
        $(
            #[doc = concat!("Request of [`", stringify!($name), "`](crate::Xlator::", stringify!($name), ").")]
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            pub struct $request {
                $($(#[$rattr])* pub $rfield: $rtype,)*
                /// What travels beside it.
                pub xdata: Xdata,
            }

            #[doc = concat!("Reply of [`", stringify!($name), "`](crate::Xlator::", stringify!($name), ").")]
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            pub struct $reply {
                $($(#[$pattr])* pub $pfield: $ptype,)*
                /// What travels beside it.
                pub xdata: Xdata,
            }
        )*

        /// The fops by number, in the order of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum FopKind {
            $($(#[doc = $doc])* $kind,)*
        }

        impl FopKind {
            /// Every fop, in the order of the table.
            pub const ALL: &'static [FopKind] = &[$(FopKind::$kind,)*];

            /// The name in volfiles, metrics, logs and C.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(FopKind::$kind => stringify!($name),)*
                }
            }
        }

        /// A request as a value.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Fop {
            $($(#[doc = $doc])* $kind($request),)*
        }

        impl Fop {
            /// Which fop it is.
            #[must_use]
            pub const fn kind(&self) -> FopKind {
                match self {
                    $(Fop::$kind(_) => FopKind::$kind,)*
                }
            }

            /// Does this fop on `xlator`.
            ///
            /// # Errors
            /// Those of the fop.
            pub async fn call(&self, xlator: &dyn crate::Xlator, cx: &crate::Cx) -> crate::FopResult<Reply> {
                match self {
                    $(Fop::$kind(request) => xlator.$name(cx, request).await.map(Reply::$kind),)*
                }
            }
        }

        /// A reply as a value.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Reply {
            $($(#[doc = $doc])* $kind($reply),)*
        }

        impl Reply {
            /// The fop it answers.
            #[must_use]
            pub const fn kind(&self) -> FopKind {
                match self {
                    $(Reply::$kind(_) => FopKind::$kind,)*
                }
            }
        }

        /// Each fop as a type, for code that is the same for all of them ([`Each`](crate::Each)).
        pub mod fop {
            $(
                $(#[doc = $doc])*
                #[derive(Clone, Copy, Debug)]
                pub struct $kind;

                impl crate::xlator::FopType for $kind {
                    type Request = super::$request;
                    type Reply = super::$reply;
                    const KIND: super::FopKind = super::FopKind::$kind;

                    fn call<'a>(
                        xlator: &'a dyn crate::Xlator,
                        cx: &'a crate::Cx,
                        request: &'a super::$request,
                    ) -> crate::BoxFuture<'a, crate::FopResult<super::$reply>> {
                        xlator.$name(cx, request)
                    }

                    fn reply_xdata(reply: &mut super::$reply) -> &mut crate::Xdata {
                        &mut reply.xdata
                    }
                }
            )*
        }

        /// Hands the table to a macro: `callback! { name Kind Request Reply; … }`, one line per fop.
        #[macro_export]
        macro_rules! for_each_fop {
            ($d callback:ident) => {
                $d callback! { $($name $kind $request $reply;)* }
            };
        }

        crate::xlator::define_xlator! { $($(#[doc = $doc])* $name $kind $request $reply;)* }
    };
}
pub(crate) use fops;
