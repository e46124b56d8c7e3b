//! TUN and TAP interfaces.

use core::sync::atomic::Ordering;

use libtest_mimic::Trial;
use lvs_std::device::tun::{self, Layer};
use lvs_std::lab::Lab;

use crate::bridge::Bridge;
use crate::trial;

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    vec![
        trial("merged TCP passes two TUN interfaces merged and arrives whole", move || {
            merged(Bridge::by_tun(lab, Layer::Ip)?)
        }),
        trial("merged TCP passes two TAP interfaces merged and arrives whole", move || {
            merged(Bridge::by_tun(lab, Layer::Ethernet)?)
        }),
        trial("a TUN interface that cannot be made is named in the error", move || {
            let node = lab.node("alone")?;
            let first = node.run(|| tun::open("same", Layer::Ip))??;
            let error = node.run(|| tun::open("same", Layer::Ip))?.expect_err("the first has it");
            assert!(error.to_string().starts_with("tun interface `same`: cannot be made"), "{error}");
            drop(first);
            node.run(|| tun::open("same", Layer::Ip))??;
            Ok(())
        }),
        trial("a TUN interface that is gone ends its device with an error", move || {
            let node = lab.node("alone")?;
            let mut tun = node.run(|| tun::open("gone", Layer::Ip))??;
            tun.device.receive.recover()?;
            node.remove_interface("gone")?;
            assert!(tun.device.receive.recover().is_err());
            assert!(tun.device.send(&[0x45; 40]).is_err());
            assert_eq!(tun.device.transmit.counters().down, 1);
            Ok(())
        }),
    ]
}

fn merged(bridge: Bridge) -> Result<(), Box<dyn core::error::Error>> {
    assert_eq!(bridge.transfer(16 << 20)?, 16 << 20);
    assert!(bridge.partial.load(Ordering::Relaxed), "the kernel leaves checksums partial");
    let (left, right) = bridge.stop();
    assert!(left.0.merged > 100, "the kernel hands merged frames over: {left:?}");
    assert_eq!(right.1.merged, left.0.merged, "as many go out merged: {right:?}");
    assert_eq!(left.0.invalid + right.0.invalid + left.1.lost() + right.1.lost(), 0);
    Ok(())
}
