"""Models of tokens: language models, predictors of transducers, encoders of letters."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lib.zoo.architecture import Architecture, Inputs, feature_first, tokens

TOKENS, WIDTH = 100, 64


class RnnLm(nn.Module):
    """SpeechBrain's RNNLM: token ids [batch, length]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, WIDTH)
        self.dropout = nn.Dropout(0.15)
        self.rnn = nn.LSTM(WIDTH, WIDTH, 2, batch_first=True, dropout=0.15)
        self.dnn = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.LeakyReLU(), nn.Dropout(0.15)
        )
        self.out = nn.Linear(WIDTH, TOKENS)
        self.return_hidden = False

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        """Logits [batch, length, tokens]."""
        x = self.embedding(x)
        x = self.dropout(x)
        squeeze_time = False
        if len(x.shape) == 2:
            x = x.unsqueeze(dim=1)
            squeeze_time = True
        self.rnn.flatten_parameters()
        x, hn = self.rnn(x, hx)
        x = self.dnn(x)
        out = self.out(x)
        if squeeze_time:
            out = out.squeeze(dim=1)
        return (out, hn) if self.return_hidden else out


class WordLanguageModel(nn.Module):
    """PyTorch's example of a language model, with tied weights: ids [length, batch], a state."""

    def __init__(self) -> None:
        super().__init__()
        self.ntoken = TOKENS
        self.drop = nn.Dropout(0.2)
        self.encoder = nn.Embedding(TOKENS, WIDTH)
        self.rnn = nn.LSTM(WIDTH, WIDTH, 2, dropout=0.2)
        self.decoder = nn.Linear(WIDTH, TOKENS)
        self.decoder.weight = self.encoder.weight

    def forward(self, input: Tensor, hidden: Any) -> tuple[Tensor, Any]:
        """Log-probabilities [length * batch, tokens], and the next state."""
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        output = self.drop(output)
        decoded = self.decoder(output)
        decoded = decoded.view(-1, self.ntoken)
        return F.log_softmax(decoded, dim=1), hidden


class _LockedDropout(nn.Module):
    def forward(self, x: Tensor, dropout: float = 0.5) -> Tensor:
        if not self.training or not dropout:
            return x
        mask = x.new_empty(1, x.size(1), x.size(2)).bernoulli_(1 - dropout) / (1 - dropout)
        return mask.expand_as(x) * x


class _WeightDrop(nn.Module):
    """A layer whose recurrent matrix is set before each call, from a parameter of another name."""

    def __init__(self, module: nn.LSTM, name: str, dropout: float) -> None:
        super().__init__()
        self.module, self.name, self.dropout = module, name, dropout
        module.flatten_parameters = lambda: None  # type: ignore[method-assign]
        raw = getattr(module, name)
        del module._parameters[name]
        module.register_parameter(name + "_raw", nn.Parameter(raw.data))

    def forward(self, *args: Any) -> Any:
        raw = getattr(self.module, self.name + "_raw")
        weight = F.dropout(raw, p=self.dropout, training=self.training)
        setattr(self.module, self.name, weight)
        return self.module.forward(*args)


class AwdLstm(nn.Module):
    """AWD-LSTM: ids [length, batch] and the states of three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.lockdrop = _LockedDropout()
        self.encoder = nn.Embedding(TOKENS, WIDTH)
        sizes = ((WIDTH, 96), (96, 96), (96, WIDTH))
        self.rnns = nn.ModuleList(
            [_WeightDrop(nn.LSTM(*each, 1), "weight_hh_l0", 0.5) for each in sizes]
        )
        self.decoder = nn.Linear(WIDTH, TOKENS)
        self.decoder.weight = self.encoder.weight

    def forward(self, input: Tensor, hidden: list[Any]) -> tuple[Tensor, list[Any]]:
        """Outputs [length * batch, width], from which the loss computes logits; next states."""
        raw_output = F.embedding(input, self.encoder.weight, -1, None, 2.0, False, False)
        raw_output = self.lockdrop(raw_output, 0.65)
        new_hidden = []
        for number, rnn in enumerate(self.rnns):
            raw_output, new_h = rnn(raw_output, hidden[number])
            new_hidden.append(new_h)
            if number != len(self.rnns) - 1:
                raw_output = self.lockdrop(raw_output, 0.3)
        output = self.lockdrop(raw_output, 0.4)
        result = output.view(output.size(0) * output.size(1), output.size(2))
        return result, new_hidden


class _CustomLSTM(nn.Module):
    """An LSTM with layer normalization of gates and cells."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.x2g = nn.Linear(size, 4 * hidden, bias=False)
        self.p2g = nn.Linear(hidden, 4 * hidden, bias=False)
        self.c_norm = nn.LayerNorm(hidden)
        self.g_norm = nn.LayerNorm(4 * hidden)
        self.hidden_dim = hidden

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, list[Tensor]]:
        if state is None:
            batch = input.size(1)
            h = torch.zeros(batch, self.hidden_dim, device=input.device, dtype=input.dtype)
            c = torch.zeros(batch, self.hidden_dim, device=input.device, dtype=input.dtype)
        else:
            h, c = state
        gated_input = self.x2g(input)
        outputs = []
        for gates in gated_input.unbind(0):
            gates = gates + self.p2g(h)
            gates = self.g_norm(gates)
            input_gate, forget_gate, cell_gate, output_gate = gates.chunk(4, 1)
            input_gate = input_gate.sigmoid()
            forget_gate = forget_gate.sigmoid()
            cell_gate = cell_gate.tanh()
            output_gate = output_gate.sigmoid()
            c = forget_gate * c + input_gate * cell_gate
            c = self.c_norm(c)
            h = output_gate * c.tanh()
            outputs.append(h)
        return torch.stack(outputs, dim=0), [h, c]


class Predictor(nn.Module):
    """torchaudio's RNN-T predictor: ids [batch, length] and their lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, WIDTH)
        self.input_layer_norm = nn.LayerNorm(WIDTH)
        self.lstm_layers = nn.ModuleList([_CustomLSTM(WIDTH, WIDTH) for _ in range(2)])
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.output_layer_norm = nn.LayerNorm(WIDTH)

    def forward(self, input: Tensor, lengths: Tensor, state: Any = None) -> tuple[Any, ...]:
        """Predictions [batch, length, width], their lengths, and the states of the layers."""
        input_tb = input.permute(1, 0)
        lstm_out = self.input_layer_norm(self.embedding(input_tb))
        state_out = []
        for i, lstm in enumerate(self.lstm_layers):
            lstm_out, after = lstm(lstm_out, None if state is None else state[i])
            lstm_out = self.dropout(lstm_out)
            state_out.append(after)
        linear_out = self.linear(lstm_out)
        output = self.output_layer_norm(linear_out)
        return output.permute(1, 0, 2), lengths, state_out


class TransducerDecoder(nn.Module):
    """ESPnet's RNN decoder of transducers: labels [batch, length]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, WIDTH, padding_idx=0)
        self.dropout_embed = nn.Dropout(0.1)
        self.decoder = nn.ModuleList(nn.LSTM(WIDTH, WIDTH, 1, batch_first=True) for _ in range(2))
        self.dropout_dec = nn.ModuleList(nn.Dropout(0.1) for _ in range(2))

    def _init_state(self, batch_size: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(2, batch_size, WIDTH), torch.zeros(2, batch_size, WIDTH)

    def forward(self, labels: Tensor) -> Tensor:
        """Decoded labels [batch, length, width]."""
        h_prev, c_prev = self._init_state(labels.size(0))
        sequence = self.dropout_embed(self.embed(labels))
        h_next, c_next = self._init_state(sequence.size(0))
        for i, layer in enumerate(self.decoder):
            sequence, (h_next[i : i + 1], c_next[i : i + 1]) = layer(
                sequence, hx=(h_prev[i : i + 1], c_prev[i : i + 1])
            )
            sequence = self.dropout_dec[i](sequence)
        return sequence  # type: ignore[no-any-return]


class G2pEncoder(nn.Module):
    """The encoder of g2p: letters [batch, length] and their lengths, one vector a word."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(29, WIDTH, padding_idx=0)
        self.rnn = nn.GRU(WIDTH, 96, batch_first=True)

    def forward(self, x: Tensor, seqlens: Tensor) -> Tensor:
        """The last state [batch, hidden size]."""
        x = self.emb(x)
        packed = pack_padded_sequence(x, seqlens, batch_first=True, enforce_sorted=False)
        _, last_hidden = self.rnn(packed)
        last_hidden = last_hidden.permute(1, 2, 0)
        last_hidden = last_hidden.contiguous().view(last_hidden.size()[0], -1)
        return last_hidden  # type: ignore[no-any-return]


class TacotronEncoder(nn.Module):
    """The encoder of Tacotron 2: embedded letters [batch, size, length] and their lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(nn.Conv1d(WIDTH, WIDTH, 5, stride=1, padding=2, dilation=1)),
                nn.BatchNorm1d(WIDTH),
            )
            for _ in range(3)
        )
        self.lstm = nn.LSTM(WIDTH, WIDTH // 2, 1, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, input_lengths: Tensor) -> Tensor:
        """Encoded letters [batch, length, size]."""
        for conv in self.convolutions:
            x = F.dropout(F.relu(conv(x)), 0.5, self.training)
        x = x.transpose(1, 2)
        lengths: Any = input_lengths.cpu().numpy()
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        self.lstm.flatten_parameters()
        outputs, _ = self.lstm(packed)
        encoded, _ = pad_packed_sequence(outputs, batch_first=True)
        return encoded


def _ids(length: int, count: int = TOKENS) -> Tensor:
    return torch.randint(1, count, (1, length))


def _zeros(*sizes: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(sizes), torch.zeros(sizes)


def _awd(length: int) -> Inputs:
    return _ids(length).T, [_zeros(1, 1, 96), _zeros(1, 1, 96), _zeros(1, 1, WIDTH)]


ARCHITECTURES = (
    Architecture(
        "RNNLM of SpeechBrain",
        "speechbrain/speechbrain speechbrain/lobes/models/RNNLM.py",
        RnnLm,
        lambda length: (_ids(length),),
        tokens,
    ),
    Architecture(
        "word language model, tied",
        "pytorch/examples word_language_model/model.py",
        WordLanguageModel,
        lambda length: (_ids(length).T, _zeros(2, 1, WIDTH)),
        tokens,
    ),
    Architecture("AWD-LSTM", "salesforce/awd-lstm-lm model.py", AwdLstm, _awd, tokens),
    Architecture(
        "RNN-T predictor of torchaudio",
        "pytorch/audio torchaudio/models/rnnt.py",
        Predictor,
        lambda length: (_ids(length), torch.tensor([length])),
        tokens,
    ),
    Architecture(
        "RNN-T decoder of ESPnet",
        "espnet/espnet espnet/nets/pytorch_backend/transducer/rnn_decoder.py",
        TransducerDecoder,
        lambda length: (_ids(length),),
        tokens,
    ),
    Architecture(
        "g2p encoder",
        "Kyubyong/nlp_made_easy PyTorch seq2seq template based on the g2p task",
        G2pEncoder,
        lambda length: (_ids(length, 29), torch.tensor([length])),
        tokens,
    ),
    Architecture(
        "Tacotron 2 encoder",
        "NVIDIA/tacotron2 model.py",
        TacotronEncoder,
        lambda length: (torch.randn(1, WIDTH, length), torch.tensor([length])),
        feature_first,
    ),
)
"""In the order of the table."""
