// Test bench: streams vectors in, compares every result, and stalls both sides at random after +STALL=1.
`timescale 1ns/1ps
module bench;
  parameter BW = 64, BEATS = 1, RW = 74, MOST = 200;
  reg clk = 0, rst = 1;
  always #5 clk = ~clk;
  reg [BW-1:0] stimulus [0:MOST*BEATS-1];
  reg [RW-1:0] golden [0:MOST-1];
  reg s_valid = 0, m_ready = 0;
  reg [BW-1:0] s_data = 0;
  wire s_ready, m_valid;
  wire [RW-1:0] result;
  `RESULT
  integer i = 0, o = 0, wrong = 0, cycle = 0, begun = -1, first = -1, final = -1, middle = -1;
  integer V = MOST, STALL = 0, LIMIT = 100000000, seed = 1;
  initial begin
    if ($value$plusargs("V=%d", V)) begin end
    if ($value$plusargs("STALL=%d", STALL)) begin end
    if ($value$plusargs("SEED=%d", seed)) begin end
    if ($value$plusargs("LIMIT=%d", LIMIT)) begin end
    $readmemh("stimulus.mem", stimulus);
    $readmemh("golden.mem", golden);
    repeat (4) @(posedge clk);
    #1 rst = 0;
  end
  always @(posedge clk) if (!rst) begin
    cycle <= cycle + 1;
    if (s_valid && s_ready) begin
      i = i + 1;
      if (begun < 0) begun = cycle;
    end
    if (m_valid && m_ready) begin
      if (result !== golden[o]) begin
        wrong = wrong + 1;
        if (wrong < 4) $display("WRONG vector %0d got %h expected %h", o, result, golden[o]);
      end
      if (first < 0) first = cycle;
      if (o == V / 4) middle = cycle;
      final = cycle;
      o = o + 1;
      if (o == V) begin
        $display("RESULT vectors %0d wrong %0d begun %0d first %0d middle %0d final %0d", V, wrong, begun, first, middle, final);
        $finish;
      end
    end
    if (cycle > LIMIT) begin
      $display("RESULT vectors %0d wrong %0d begun %0d first %0d middle %0d final %0d", o, V - o, begun, first, middle, final);
      $finish;
    end
    #1 s_valid = i < V*BEATS && (STALL == 0 || ($random(seed) & 3) != 0);
    if (i < V*BEATS) s_data = stimulus[i];
    m_ready = STALL == 0 || ($random(seed) & 3) == 0;
  end
endmodule
