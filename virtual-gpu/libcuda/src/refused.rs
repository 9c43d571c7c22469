//! What the virtual GPU does not do: stream capture and graphs. The functions are there so that programs
//! are told, instead of failing to load.

use crate::boundary::{Answer, Out, exports};
use crate::driver::enter;
use crate::error::NOT_SUPPORTED;
use crate::handle::Handle;
use crate::stream::valid;

fn refuse(what: &str) -> Answer {
    eprintln!("virtual-gpu: {what} is not supported");
    Err(NOT_SUPPORTED)
}

/// Status of a stream that captures nothing.
const NONE: u32 = 0;

exports! {
    /// Stream capture is refused.
    fn cuStreamBeginCapture_v2(stream: Handle, _mode: u32) {
        valid(enter()?, stream)?;
        refuse("stream capture")
    }

    /// Stream capture is refused.
    fn cuStreamEndCapture(stream: Handle, _graph: Out<Handle>) {
        valid(enter()?, stream)?;
        refuse("stream capture")
    }

    /// No stream captures.
    fn cuStreamIsCapturing(stream: Handle, status: Out<u32>) {
        valid(enter()?, stream)?;
        status.set(NONE)
    }

    /// No stream captures.
    fn cuStreamGetCaptureInfo_v2(stream: Handle, status: Out<u32>) {
        valid(enter()?, stream)?;
        status.set(NONE)
    }

    /// No stream captures.
    fn cuStreamGetCaptureInfo_v3(stream: Handle, status: Out<u32>) {
        valid(enter()?, stream)?;
        status.set(NONE)
    }

    /// With no capture, any mode is the mode.
    fn cuThreadExchangeStreamCaptureMode(mode: Out<u32>) {
        mode.check()
    }

    /// Graphs are refused.
    fn cuGraphCreate(_graph: Out<Handle>, _flags: u32) {
        refuse("a graph")
    }

    /// Graphs are refused.
    fn cuGraphInstantiateWithFlags(_exec: Out<Handle>, _graph: Handle, _flags: u64) {
        refuse("a graph")
    }

    /// Graphs are refused.
    fn cuGraphLaunch(_exec: Handle, _stream: Handle) {
        refuse("a graph")
    }
}
