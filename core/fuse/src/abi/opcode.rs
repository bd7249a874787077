//! The numbers of operations and of notifications.

/// Declares an enum of the protocol with its way back from a number.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident: $word:ty { $($(#[$item_doc:meta])* $item:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $($(#[$item_doc])* $item = $value,)*
        }

        impl $name {
            /// Every value, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$item),*];

            /// The value with this number, if the protocol has one.
            pub const fn from_number(number: $word) -> Option<Self> {
                match number {
                    $($value => Some(Self::$item),)*
                    _ => None,
                }
            }
        }
    };
}

numbered! {
    /// What the kernel asks for.
    #[allow(missing_docs)]
    Opcode: u32 {
        Lookup = 1,
        /// Has no reply.
        Forget = 2,
        GetAttr = 3,
        SetAttr = 4,
        ReadLink = 5,
        SymLink = 6,
        MkNod = 8,
        MkDir = 9,
        Unlink = 10,
        RmDir = 11,
        Rename = 12,
        Link = 13,
        Open = 14,
        Read = 15,
        Write = 16,
        StatFs = 17,
        Release = 18,
        FSync = 20,
        SetXattr = 21,
        GetXattr = 22,
        ListXattr = 23,
        RemoveXattr = 24,
        Flush = 25,
        Init = 26,
        OpenDir = 27,
        ReadDir = 28,
        ReleaseDir = 29,
        FSyncDir = 30,
        GetLk = 31,
        SetLk = 32,
        SetLkW = 33,
        Access = 34,
        Create = 35,
        Interrupt = 36,
        BMap = 37,
        Destroy = 38,
        IoCtl = 39,
        Poll = 40,
        /// The answer to a RETRIEVE notification; has no reply.
        NotifyReply = 41,
        /// Has no reply.
        BatchForget = 42,
        FAllocate = 43,
        ReadDirPlus = 44,
        Rename2 = 45,
        LSeek = 46,
        CopyFileRange = 47,
        SetupMapping = 48,
        RemoveMapping = 49,
        SyncFs = 50,
        TmpFile = 51,
        StatX = 52,
        CopyFileRange64 = 53,
    }
}

numbered! {
    /// What a server may tell the kernel without being asked.
    #[allow(missing_docs)]
    NotifyCode: u32 {
        Poll = 1,
        InvalInode = 2,
        InvalEntry = 3,
        Store = 4,
        Retrieve = 5,
        Delete = 6,
        Resend = 7,
        IncEpoch = 8,
        Prune = 9,
    }
}

impl Opcode {
    /// Whether the kernel waits for a reply to it.
    pub const fn is_answered(self) -> bool {
        !matches!(self, Self::Forget | Self::BatchForget | Self::NotifyReply | Self::Interrupt)
    }
}
