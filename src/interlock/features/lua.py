"""Generates the Lua scripts of the online store from the definition.

`trip_script`: one call per transaction. KEYS: claim, base, one state per entity; ARGV: event ms,
amount, holder. Windows are unrolled, states are edited as strings (running totals, an open tile
in the head), so the usual call parses one head and moves few bytes. Every check is made before
the first write. Answers: a status byte (see `online`), then for FRESH and RESUMED the attempt
and the body, for ANSWERED the reply, for HELD the wait in ms.

`replies_script`: KEYS: claims; ARGV: replies. The first stored reply wins.

The arithmetic is exact: Lua numbers are doubles, and every integer here is below 2^53.
"""

from __future__ import annotations

from interlock.features import state
from interlock.features.definition import MAX_AMOUNT, FeatureSet, Velocity, Window

STATUS_COLD = 5
STATUS_OVERFLOW = 6

_PER_MS = 1000


def _window_names(number: int) -> list[str]:
    return [f"{name}{number}" for name in ("x", "n", "c", "s", "C", "S")]


def _window_code(number: int, window: Window, lateness_s: int) -> str:  # long: the text of one script
    """Read and record in one window: the open tile x, the closed tiles at bytes p..q of raw."""
    x, n, c, s, total, total_sum = _window_names(number)
    hop = window.hop_seconds * _PER_MS
    span = window.seconds // window.hop_seconds
    kept_ms = (window.seconds + lateness_s) * _PER_MS
    return f"""
  do
    local hi=t/{hop} hi=hi-hi%1
    local p,q=off,off+{n}*{state.TILE_SIZE}
    off=q
    local keep=(H-{kept_ms})/{hop} keep=keep-keep%1
    if hi<{x} then
      local rc,rs,at,found,fc,fs=0,0,p,false,0,0
      for o=p,q-1,{state.TILE_SIZE} do
        local g={x}-({x}-byte(raw,o+1))%256
        if g<=hi then
          local tc,ts=unpack_('<I4i6',raw,o+2)
          if g>=hi-{span} then rc=rc+tc rs=rs+ts end
          if g==hi then found=true fc=tc fs=ts else at=o+{state.TILE_SIZE} end
        end
      end
      r{number},R{number}=rc,rs
      if hi>=keep then
        local rest=at if found then rest=at+{state.TILE_SIZE} else {n}={n}+1 end
        fs=fs+a
        if fs>={state.SUM_LIMIT} or fs<=-{state.SUM_LIMIT} then return '\\{STATUS_OVERFLOW}' end
        b{number}=sub(raw,p+1,at)..pack('{state.TILE_FORMAT}',hi%256,fc+1,fs)..sub(raw,rest+1,q)
        {total}={total}+1 {total_sum}={total_sum}+a
      else b{number}=sub(raw,p+1,q) end
    elseif {x}<keep then
      r{number},R{number},b{number}=0,0,''
      {x},{n},{c},{s},{total},{total_sum}=hi,0,1,a,1,a
    else
      local m={x}-keep
      while p<q and ({x}-byte(raw,p+1))%256>m do
        local tc,ts=unpack_('<I4i6',raw,p+2)
        {total}={total}-tc {total_sum}={total_sum}-ts p=p+{state.TILE_SIZE} {n}={n}-1
      end
      m={x}-hi+{span}
      if m<0 then r{number},R{number}=0,0 else
        local rc,rs,o={total},{total_sum},p
        while o<q and ({x}-byte(raw,o+1))%256>m do
          local tc,ts=unpack_('<I4i6',raw,o+2)
          rc=rc-tc rs=rs-ts o=o+{state.TILE_SIZE}
        end
        r{number},R{number}=rc,rs
      end
      if hi=={x} then
        {c}={c}+1 {s}={s}+a
        if {s}>={state.SUM_LIMIT} or {s}<=-{state.SUM_LIMIT} then return '\\{STATUS_OVERFLOW}' end
        if p<q then b{number}=sub(raw,p+1,q) else b{number}='' end
      else
        local tile=pack('{state.TILE_FORMAT}',{x}%256,{c},{s})
        if p<q then b{number}=sub(raw,p+1,q)..tile else b{number}=tile end
        {x},{n},{c},{s}=hi,{n}+1,1,a
      end
      {total}={total}+1 {total_sum}={total_sum}+a
    end
  end"""


def _loop_code(first: int, last: int, velocity: Velocity) -> str:
    """Entities `first`..`last` (1-based), which share the shape of `velocity`."""
    windows = range(1, len(velocity.windows) + 1)
    fields = ",".join(name for i in windows for name in _window_names(i))
    shape = state.HEAD_FORMAT + state.WINDOW_FORMAT * len(velocity.windows)
    values_shape = "<" + "i8" * (2 * len(velocity.windows))
    new_window = "".join(f",hi{i},0,1,a,1,a" for i in windows)
    new_tiles = "\n".join(
        f"    local hi{i}=t/{w.hop_seconds * _PER_MS} hi{i}=hi{i}-hi{i}%1" for i, w in enumerate(velocity.windows, 1)
    )
    reads = ",".join(f"r{i},R{i}" for i in windows)
    bodies = ",".join(f"b{i}" for i in windows)
    tiles = "..".join(f"b{i}" for i in windows)
    counts = "+".join(f"n{i}" for i in windows)
    code = "".join(_window_code(i, w, velocity.lateness_s) for i, w in enumerate(velocity.windows, 1))
    size = state.closed_offset(velocity)
    return f"""
for e={first},{last} do
  local raw=got[e+2]
  if not raw then
    if call('EXISTS',KEYS[e+2])==1 then return '\\4' end
    if not epoch then epoch=tonumber(call('TIME')[1]) end
{new_tiles}
    states[e]=pack('{shape}',{state.VERSION},epoch,1,t{new_window})
    applied[e]=pack('<I4I6',epoch,1)
    values[e]='{_zero_bytes(16 * len(velocity.windows))}'
  else
  if #raw<{size} or byte(raw,1)~={state.VERSION} then return '\\4' end
  local _,ep,seq,hw,{fields}=unpack_('{shape}',raw)
  local off={size}
  if off+({counts})*{state.TILE_SIZE}~=#raw then return '\\4' end
  local H=hw if t>hw then H=t end
  local {bodies}
  local {reads}
{code}
  seq=seq+1
  states[e]=pack('{shape}',{state.VERSION},ep,seq,H,{fields})..{tiles}
  applied[e]=pack('<I4I6',ep,seq)
  values[e]=pack('{values_shape}',{reads})
  end
end"""


def _zero_bytes(size: int) -> str:
    return "\\0" * size


def _runs(feature_set: FeatureSet) -> list[tuple[int, int, Velocity]]:
    """Neighbouring entities of equal shape share one loop."""
    runs: list[tuple[int, int, Velocity]] = []
    for number, velocity in enumerate(feature_set.velocities, 1):
        same = runs and _shape(runs[-1][2]) == _shape(velocity)
        if same:
            runs[-1] = (runs[-1][0], number, runs[-1][2])
        else:
            runs.append((number, number, velocity))
    return runs


def _shape(velocity: Velocity) -> tuple[tuple[Window, ...], int]:
    return velocity.windows, velocity.lateness_s


def trip_script(feature_set: FeatureSet, hold_ms: int, window_ms: int) -> str:
    """The claim + read + record script for one feature set."""
    count = len(feature_set.velocities)
    keys = ",".join(f"KEYS[{i}]" for i in range(1, count + 3))
    loops = "".join(_loop_code(*run) for run in _runs(feature_set))
    body = state.body_size(feature_set)
    writes = "\n".join(
        f"call('SET',KEYS[{i + 2}],states[{i}],'EX','{v.horizon_s}')" for i, v in enumerate(feature_set.velocities, 1)
    )
    applied = "..".join(f"applied[{i}]" for i in range(1, count + 1))
    values = "..".join(f"values[{i}]" for i in range(1, count + 1))
    return f"""local call,byte,sub,pack,unpack_=redis.call,string.byte,string.sub,struct.pack,struct.unpack
local got=call('MGET',{keys})
local claim=got[1]
if claim then
  local kind=byte(claim,1)
  if kind==65 then return '\\1'..sub(claim,2) end
  if kind~=72 or #claim<{state.CLAIM_HEAD + body} then return '\\4' end
  local attempt,lapse=unpack_('<BI4',claim,2)
  local left=call('PTTL',KEYS[1])
  if left>lapse then return pack('<BI4',2,left-lapse) end
  if attempt<255 then attempt=attempt+1 end
  local again=left-{hold_ms} if again<0 then again=0 end
  local rest=sub(claim,{state.CLAIM_HEAD + 1},{state.CLAIM_HEAD + body})
  call('SET',KEYS[1],'H'..pack('<BI4',attempt,again)..rest..ARGV[3],'KEEPTTL')
  return pack('<BB',3,attempt)..rest
end
if not got[2] then return '\\{STATUS_COLD}' end
local t,a=tonumber(ARGV[1]),tonumber(ARGV[2])
if a>{MAX_AMOUNT} or a<-{MAX_AMOUNT} then return '\\{STATUS_OVERFLOW}' end
local epoch
local states,applied,values={{}},{{}},{{}}
{loops}
local rest={applied}..{values}
local head=pack('<BI4',1,{window_ms - hold_ms})
if not call('SET',KEYS[1],'H'..head..rest..ARGV[3],'PX','{window_ms}','NX') then return '\\4' end
{writes}
return '\\0\\1'..rest
"""


def replies_script(window_ms: int) -> str:
    """Stores a tick's replies; answers, per claim, false or the reply that was there first."""
    return f"""local call,byte,sub=redis.call,string.byte,string.sub
local out={{}}
local got=call('MGET',unpack(KEYS))
for i=1,#KEYS do
  local found=got[i]
  if found and byte(found,1)==65 then out[i]=sub(found,2)
  else call('SET',KEYS[i],'A'..ARGV[i],'PX','{window_ms}') out[i]=false end
end
return out
"""
